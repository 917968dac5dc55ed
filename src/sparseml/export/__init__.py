"""From a trained checkpoint to a folder that runs anywhere: ONNX, its forms for each runtime, and proof that it is right."""
