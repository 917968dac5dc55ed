// The engine's C interface: what Python calls, and the layout of the model that it passes.
//
// A model is one block of memory, written by Python and only read here, so that it can be mapped from a file and
// shared by processes. It begins with a `Model`; everything else lies where the offsets in it point, counted in bytes
// from the beginning of the block. Numbers are little-endian. Offsets of arrays are multiples of 64; 0 is "none".
//
// Arithmetic follows ONNX: QuantizeLinear rounds half to even and saturates; integer products are exact.

#pragma once

#include <stdint.h>

#if defined(_WIN32)
#define RESPARSE_EXPORT extern "C" __declspec(dllexport)
#else
#define RESPARSE_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace resparse {

constexpr uint64_t kMagic = 0x3165766974616e72;  // "rnative1"
constexpr uint32_t kVersion = 3;
constexpr uint32_t kMaxLayers = 128;
constexpr uint32_t kMaxHeadLinears = 4;

// Instruction sets, as bits.
enum Isa : uint32_t { kPortable = 1, kAvx2 = 2, kAvx512 = 4, kAmx = 8 };

// How the weights of a matrix are packed; see pack.h.
enum Form : uint32_t {
  kDense = 1,    // groups of 16 rows, all weights
  kSlots64 = 2,  // groups of 16 rows, non-zeros with their place in a window of 64 columns
  kSlots16 = 3,  // groups of 8 rows, non-zeros with their place in a window of 16 columns
  kMask64 = 4,   // groups of 16 rows, a mask for each block of 64 columns and its non-zeros
  kFloat = 5,    // groups of 16 rows, all weights, in float
};

enum Activation : uint32_t { kNone = 0, kGelu = 1, kGeluTanh = 2, kRelu = 3, kTanh = 4, kSilu = 5 };

// A quantization grid: integer = saturate(round(value / scale) + zero_point).
struct Grid {
  float scale;
  int32_t zero_point;
};

// output = (packed weights) x (integers of the input) * scales + biases, by rows. Of the form kFloat, which only the
// projection and the head may have: (packed weights) x (input) + biases; scales and offsets are none.
struct Linear {
  uint64_t weights;       // packed, in `form`
  uint64_t weights_size;  // bytes
  uint64_t scales;        // float[padded rows]: scale of the input times scale of the row's weights
  uint64_t biases;        // float[padded rows]
  uint64_t offsets;       // int32[padded rows]: -(zero point of the input) * (sum of the row's weights)
  uint32_t rows;          // outputs; padded to a multiple of 16 everywhere
  uint32_t columns;       // inputs
  uint32_t form;
  uint32_t reserved;
};

struct Norm {
  uint64_t weight;  // float[hidden]
  uint64_t bias;    // float[hidden]
};

// A table of int8 rows, or of float rows where scale is 0.
struct Table {
  uint64_t rows;   // int8[count][width] or float[count][width]
  uint32_t count;  // 0: the model has no such table
  float scale;
};

struct Layer {
  Linear query, key, value, attention_output, intermediate, output;
  Grid input;               // of query, key and value (uint8)
  Grid query_grid;          // uint8
  Grid key_grid;            // int8, zero point 0
  Grid probabilities_grid;  // uint8
  Grid value_grid;          // int8, zero point 0
  Grid attention_output_input, intermediate_input, output_input;  // uint8
  Norm attention_norm, output_norm;
};

// A linear of the classification head, on the first token of each text.
struct HeadLinear {
  Linear linear;
  Grid input;           // uint8; a sound one also where the linear is kFloat, which does not use it
  uint32_t activation;  // after it
  uint32_t reserved;
};

struct Model {
  uint64_t magic;
  uint32_t version;
  uint32_t isa;  // that the forms are for
  uint64_t size;  // of the whole block
  uint32_t layers, hidden, intermediate, heads;
  uint32_t embedding;  // width of the embedding tables; other than hidden where a projection follows
  uint32_t labels;
  uint32_t activation;  // between intermediate and output
  uint32_t head_linears;
  float epsilon;      // of the norms
  float score_scale;  // of attention scores, 1 / sqrt(head size)
  Table words, positions, types;
  Norm embedding_norm;
  Linear projection;  // rows 0: none
  Grid projection_input;
  HeadLinear head[kMaxHeadLinears];
  uint64_t layer_records;  // Layer[layers]
};

}  // namespace resparse

// All functions may be called from any thread. Those that return int give 0, or -1: then resparse_error() tells what
// went wrong, in the thread that called.

RESPARSE_EXPORT const char* resparse_error();

// Instruction sets that this processor has and this library was built with, as bits of Isa.
RESPARSE_EXPORT uint32_t resparse_isas();

// Pack an int8 matrix [rows][columns] for a form. Writes to `out` and returns the bytes; with `out` null, only the
// bytes that it takes; -1 on an error.
RESPARSE_EXPORT int64_t resparse_pack(uint32_t form, const int8_t* weights, uint32_t rows, uint32_t columns,
                                      uint8_t* out, int64_t capacity);

// Seconds that the integer product takes on `tokens` made-up rows, the best of some runs; below 0 on an error.
RESPARSE_EXPORT double resparse_time(uint32_t isa, uint32_t form, const uint8_t* packed, int64_t size, uint32_t rows,
                                     uint32_t columns, uint32_t tokens);

// The integer product alone: out[tokens][padded rows] = x[tokens][columns] times the packed weights.
RESPARSE_EXPORT int resparse_multiply(uint32_t isa, uint32_t form, const uint8_t* packed, int64_t size, uint32_t rows,
                                      uint32_t columns, const uint8_t* x, uint32_t tokens, int32_t* out);

// Give memory that packing has left unused back to the system, where that takes asking.
RESPARSE_EXPORT void resparse_trim();

// Open a model, after checking that nothing in it points out of the block; null on an error. The block stays the
// caller's, who must not change or release it before resparse_close.
RESPARSE_EXPORT void* resparse_open(const void* block, uint64_t size);
RESPARSE_EXPORT void resparse_close(void* model);

// Classify texts, whose tokens stand one after the other: text i has tokens starts[i] to starts[i + 1] - 1.
// `types` may be null. `logits` gets [texts][labels]. At most `threads` threads compute, the caller's among them; fewer
// where other runs have them.
RESPARSE_EXPORT int resparse_run(void* model, const int32_t* ids, const int32_t* types, const int32_t* positions,
                                 const int64_t* starts, int32_t texts, int32_t threads, float* logits);
