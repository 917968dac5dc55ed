"""From a trained checkpoint to a folder that runs anywhere: ONNX, the forms that runtimes run fast, and the proof."""
