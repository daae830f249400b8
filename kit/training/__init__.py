"""How the training of a network is judged and drawn, outside the images."""
