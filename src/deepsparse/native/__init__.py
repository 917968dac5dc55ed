"""The native engine: sparse int8 encoders, their zeros skipped.

model.onnx ──> onnx_file ──> architecture ──> packing ──> cache ──> library
               a Graph       an Encoder       one block   on disk   csrc, by ctypes
                                              of memory
"""
