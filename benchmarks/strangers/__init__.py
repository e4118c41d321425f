"""Networks and constructs that this project did not make, each sent through every step of the line by itself."""
