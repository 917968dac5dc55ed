"""The native engine: sparse int8 encoders, whose zeros are skipped.

model.onnx -> onnx_graph -> recognition -> renumbering -> packing -> cache -> library
              a Graph       an Encoder     an Encoder     a block    on disk  csrc, by ctypes
"""
