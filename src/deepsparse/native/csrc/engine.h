// The engine's C interface, called from Python by ctypes, and the binary layout of a packed model.
//
// A packed model is one block of memory. Python writes it, the library only reads it, so that it can be mapped from a
// file and shared between processes. It begins with a `Model`; all other data is found by offsets in bytes from the
// start of the block. Numbers are little-endian. Offsets of arrays are multiples of 64; 0 means that there is none.
//
// Arithmetic follows ONNX: QuantizeLinear rounds half to even and saturates; integer products are exact.

#pragma once

#include <stdint.h>

#define RESPARSE_EXPORT extern "C" __attribute__((visibility("default")))

namespace resparse {

constexpr uint64_t kMagic = 0x3165766974616e72;  // "rnative1"
constexpr uint32_t kVersion = 7;
constexpr uint32_t kMaxLayers = 128;
constexpr uint32_t kMaxHeadLinears = 4;
constexpr uint32_t kMaxScoreGrids = 3;
constexpr uint32_t kNoWindow = 0xffffffff;

// How the weights of a matrix are stored; see weight_formats.h.
enum WeightFormat : uint32_t {
  kDense = 1,        // int8, all weights
  kSlots64 = 2,      // int8, non-zeros with their positions in a window of 64 columns
  kMask64 = 4,       // int8, a bit mask for each block of 64 columns, and the non-zeros
  kFloat = 5,        // float, all weights
  kSparseFloat = 6,  // float, non-zeros with their columns
  kDenseOctets = 8,  // int8, all weights, eight columns of a row adjacent
  kSlots32 = 9,      // int8, non-zeros with their positions in a window of 32 columns
  kBfloat16 = 11,    // bfloat16, all weights; where the processor multiplies them
  kCsr4 = 10,        // int8, the non-zeros of each row with their columns, in groups of four
};

// kTable: a table of the values for all integers of the grid `output` of the linear before.
enum Activation : uint32_t { kNone = 0, kGelu = 1, kGeluTanh = 2, kRelu = 3, kTanh = 4, kSilu = 5, kTable = 6 };
constexpr uint32_t kTableSize = 256;

// What the head is applied to: the first token of each text or the mean of all (sequence classification), or every token
// (token classification).
enum HeadTokens : uint32_t { kFirstToken = 0, kEveryToken = 1, kMeanOfTokens = 2 };

// Which embeddings are added last, which matters where sums of them are rounded.
enum AddedLast : uint32_t { kPositionsLast = 0, kTypesLast = 1, kWordsLast = 2 };

// A quantization grid: integer = clamp(round(value / scale) + zero_point, least, most). Within 0 to 255, or, where the
// grid is said to be int8, within -128 to 127; narrower with fewer bits.
struct Grid {
  float scale;
  int32_t zero_point;
  int32_t least, most;

  bool operator==(const Grid& other) const {
    return scale == other.scale && zero_point == other.zero_point && least == other.least && most == other.most;
  }
};

// output = (weights) x (quantized input) * scales + biases, by rows, rounded to the grid `output` if there is one, and to
// `product` before biases are added.
// Without a grid `input`, every text's inputs are quantized by their own range (ONNX's DynamicQuantizeLinear), and
// scales are those of the weights alone. In kFloat, kSparseFloat and kBfloat16: (weights) x (input) + biases, without scales and
// offsets; the input is rounded to its grid if there is one.
struct Linear {
  uint64_t weights;       // packed in `format`
  uint64_t weights_size;  // bytes
  uint64_t scales;        // float[padded rows]: scale of the input times scale of the row's weights
  uint64_t biases;        // float[padded rows]
  uint64_t offsets;       // int32[padded rows]: -(zero point of the input) * (sum of the row's weights)
  uint32_t rows;          // outputs; padded to a multiple of 16 everywhere
  uint32_t columns;       // inputs
  uint32_t format;
  uint32_t reserved;
  Grid input, output, product;  // uint8; scale 0: none
};

// How the products of attention are computed: of integers; of floats, rounded to grids with a scale that is not 0; of
// floats, rounded by the range of each text (ONNX's DynamicQuantizeLinear).
enum AttentionProducts : uint32_t { kIntegerAttention = 0, kFloatAttention = 1, kAttentionByRange = 2 };

struct Norm {
  uint64_t weight;  // float[hidden]
  uint64_t bias;    // float[hidden]
};

// An embedding table of int8 rows, or of float rows where scale is 0.
struct Table {
  uint64_t rows;   // int8[count][width] or float[count][width]
  uint32_t count;  // 0: the model has no such table
  float scale;
};

// Sizes may differ from layer to layer.
struct Layer {
  Linear query, key, value, attention_output, intermediate, output;
  Grid query_grid;          // uint8
  Grid key_grid;            // int8, zero point 0
  Grid probabilities_grid;  // uint8
  Grid value_grid;          // int8, zero point 0
  Norm attention_norm, output_norm;
  Linear gate;              // of intermediate's input, multiplied with what is activated (GLU); rows 0: none
  uint64_t frequencies;     // float[head size / 2], of rotary positions; 0: none
  uint64_t bias;            // float[heads][bias_stride(reach)], added to scores; 0: none
  uint32_t reach;           // a text has so many tokens at most, where there is a bias
  uint32_t window;          // a token attends to so many on each side of it, and itself; kNoWindow: to all
  uint32_t heads;
  uint32_t activation;  // between intermediate and output
  float score_scale;    // of attention scores, usually 1 / sqrt(head size)
  uint32_t attention;   // an AttentionProducts; with kFloatAttention, the four grids above are of uint8, of any zero point
  // With kFloatAttention also scores, times score_scale, may be rounded, to one grid after the other.
  Grid score_grids[kMaxScoreGrids];
  Grid softmax_grid;  // of probabilities, before `probabilities_grid`
  Grid context_grid;  // of what attention gives
  // What hidden states are rounded to, uint8; scale 0: they stay as they are. `residual`: when the output of attention,
  // or of the layer, is added to them; `sum`: before they are normalized.
  Grid attention_residual, attention_sum, output_residual, output_sum;
  uint64_t table;  // float[kTableSize], with the activation kTable
};

// Between the biases of two heads. That of a key and a query lies at reach - 1 + (place of the key - that of the query);
// there are so many more that a vector may be read from any place.
constexpr uint64_t bias_stride(uint32_t reach) { return (2 * uint64_t{reach} + 15 + 15) / 16 * 16; }

// A linear layer of the head.
struct HeadLinear {
  Linear linear;
  uint32_t activation;  // after it
  uint32_t reserved;
  Norm norm;            // after the activation; offsets 0: none
  uint64_t table;  // as in Layer
};

struct Model {
  uint64_t magic;
  uint32_t version;
  uint32_t isa;   // the instruction set that the weights are packed for
  uint64_t size;  // of the whole block
  uint32_t layers, hidden;
  uint32_t embedding;  // width of the embedding tables; differs from hidden where there is a projection
  uint32_t labels;
  uint32_t head_linears;
  uint32_t head_tokens;  // a HeadTokens
  float epsilon;         // of the norms
  uint32_t keeps_sums;   // 1: residuals are added to sums before their norms (pre-norm); 0: to what is normalized
  uint32_t added_last;   // an AddedLast
  Table words, positions, types;
  Grid first_sum, embedding_sum;  // of the embeddings that are added first, and of all: uint8; scale 0: not rounded
  Norm embedding_norm;
  Linear projection;  // rows 0: none
  HeadLinear head[kMaxHeadLinears];
  uint64_t layer_records;  // Layer[layers]
};

// A packed matrix, for resparse_time, and what follows its product.
struct TimedMatrix {
  const uint8_t* packed;  // at a multiple of 64
  uint64_t size;
  uint32_t rows, columns;
  uint32_t format;      // a WeightFormat
  uint32_t activation;  // an Activation
};

// An instruction set that the library knows, whether or not it has kernels for it in this build.
struct InstructionSet {
  const char* name;
  uint32_t isa;      // a bit
  uint32_t formats;  // of integer weights that its kernels read: bit 1 << WeightFormat for each
};

}  // namespace resparse

// All functions may be called from any thread. Those that return int give 0, or -1 on an error: resparse_error() then
// returns the message, in the thread that called.

RESPARSE_EXPORT const char* resparse_error();

// The instruction sets that the library knows, better ones later; null past the last.
RESPARSE_EXPORT const resparse::InstructionSet* resparse_instruction_set(uint32_t index);

// Bits of the instruction sets that this processor has and this build has kernels for.
RESPARSE_EXPORT uint32_t resparse_isas();

// Whether weights in float may be packed as kBfloat16 beside this instruction set: 1 or 0.
RESPARSE_EXPORT int resparse_bfloats(uint32_t isa);

// Pack an int8 matrix [rows][columns]. Writes to `out` and returns the bytes; with `out` null, only computes the size;
// -1 on an error.
RESPARSE_EXPORT int64_t resparse_pack(uint32_t format, const int8_t* weights, uint32_t rows, uint32_t columns,
                                      uint8_t* out, int64_t capacity);

// Seconds of the products of integer matrices with `tokens` tokens, one after the other and as a model runs them, on at
// most `threads` threads: the mean of `runs`, after one that is not counted; below 0 on an error. On one thread, that is
// the time for which it ran. With `sums_only` the sums are not requantized.
RESPARSE_EXPORT double resparse_time(uint32_t isa, const resparse::TimedMatrix* matrices, uint32_t count,
                                     uint32_t tokens, uint32_t threads, uint32_t runs, int sums_only);

// The integer product alone: out[tokens][padded rows] = x[tokens][columns] times the packed weights.
RESPARSE_EXPORT int resparse_multiply(uint32_t isa, uint32_t format, const uint8_t* packed, int64_t size, uint32_t rows,
                                      uint32_t columns, const uint8_t* x, uint32_t tokens, int32_t* out);

// Return free heap memory to the operating system, where the allocator does not do so by itself.
RESPARSE_EXPORT void resparse_trim();

// Open a model, after checking that no offset in it points outside the block; null on an error. The block belongs to
// the caller, who must not change or free it before resparse_close.
RESPARSE_EXPORT void* resparse_open(const void* block, uint64_t size);
RESPARSE_EXPORT void resparse_close(void* model);

// Run a batch of texts without padding, concatenated: text i has the tokens starts[i] to starts[i + 1] - 1.
// `types` may be null. `logits` gets [texts][labels], or [tokens][labels] where the head is applied to every token.
// At most `threads` threads compute, including the caller's; fewer where other runs use them.
RESPARSE_EXPORT int resparse_run(void* model, const int32_t* ids, const int32_t* types, const int32_t* positions,
                                 const int64_t* starts, int32_t texts, int32_t threads, float* logits);
