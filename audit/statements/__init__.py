"""What a sealed run found, as statements that other tools read."""
