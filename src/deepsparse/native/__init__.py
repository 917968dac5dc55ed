"""The native engine: sparse int8 encoders, their zeros skipped.

    model.onnx ──> onnx_file ──> architecture ──> packing ──> cache ──> library
                   the graph     what it is:      one block    on disk   csrc, by ctypes
                                 a Classifier     of memory
"""
