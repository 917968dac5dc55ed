"""`sparseml recipe new`: a commented recipe for a model and a dataset."""
