"""What takes long: `make proof`."""
