"""Export of a trained checkpoint: traced to ONNX, rewritten for a runtime, verified, written as a deployment folder."""
