"""The guided run: a file of rows and nothing else goes in; a checked, measured model with its summary comes out."""
