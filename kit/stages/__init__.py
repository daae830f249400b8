"""What runs inside the images. It imports nothing else of the kit."""
