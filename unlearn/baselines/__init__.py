"""What a remedy is compared with: the usual unlearning methods, each in one file."""
