"""Did it work? What a remedied model still knows, what it lost, what brings the forgotten back, and a verdict."""
