"""`sparseml report DIR`: a trained folder as tables, and as one HTML page with plots."""
