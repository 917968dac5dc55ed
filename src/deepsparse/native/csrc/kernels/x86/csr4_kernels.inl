// The product with kCsr4 by registers of 256 bits. Included in the namespace of each instruction set, which defines
// before:
//
//   __m256i add_products(sums, inputs, weights), and the same of __m128i
//                                      adds to every int32 the products of four uint8 with four int8, whose first two
//                                      and last two add up to an int16 each

// --- inputs ---

// Transposes 16 columns of 32 tokens: out[16 columns][32 tokens].
RESPARSE_INLINE void transpose_bytes(const uint8_t* const (&tokens)[kCsr4Tokens], size_t column, uint8_t* out) {
  __m256i rows[16], mixed[16];
  // Both halves of a register hold 16 columns of a token; a butterfly of interleaving transposes each.
  for (uint32_t i = 0; i < 16; ++i)
    rows[i] = _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(tokens[i] + column))),
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(tokens[i + 16] + column)), 1);
  for (uint32_t round = 0; round < 4; ++round) {
    for (uint32_t i = 0; i < 8; ++i) {
      mixed[2 * i] = _mm256_unpacklo_epi8(rows[i], rows[i + 8]);
      mixed[2 * i + 1] = _mm256_unpackhi_epi8(rows[i], rows[i + 8]);
    }
    for (uint32_t i = 0; i < 16; ++i) rows[i] = mixed[i];
  }
  for (uint32_t i = 0; i < 16; ++i) _mm256_store_si256(reinterpret_cast<__m256i*>(out + i * kCsr4Tokens), rows[i]);
}

// As in Kernels. Tokens beyond the last are the last one again.
void arrange(const uint8_t* x, size_t stride, uint32_t tokens, uint32_t columns, uint8_t* out) {
  const uint8_t* rows[kCsr4Tokens];
  for (uint32_t token = 0; token < kCsr4Tokens; ++token)
    rows[token] = x + (token < tokens ? token : tokens - 1) * stride;
  uint32_t column = 0;
  for (; column + 16 <= columns; column += 16) transpose_bytes(rows, column, out + size_t{column} * kCsr4Tokens);
  if (column == columns) return;
  alignas(kAlignment) uint8_t last[16 * kCsr4Tokens];
  transpose_bytes(rows, column, last);
  std::memcpy(out + size_t{column} * kCsr4Tokens, last, size_t{columns - column} * kCsr4Tokens);
}

// --- products ---

// Registers of four columns' inputs, interleaved: lanes of four bytes of a token, of up to 32, 16 or 8 tokens.
template <uint32_t kTokens>
struct Interleaved;

template <>
struct Interleaved<32> {
  using Register = __m256i;
  static constexpr uint32_t kCount = 4;
  Register of[kCount];

  RESPARSE_INLINE Register read(const uint8_t* from) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
  }
  inline RESPARSE_INLINED Interleaved(const uint8_t* x, const uint16_t (&offsets)[4]) {
    const Register a = read(x + offsets[0]), b = read(x + offsets[1]);
    const Register c = read(x + offsets[2]), d = read(x + offsets[3]);
    const Register low_ab = _mm256_unpacklo_epi8(a, b), low_cd = _mm256_unpacklo_epi8(c, d);
    of[0] = _mm256_unpacklo_epi16(low_ab, low_cd);
    of[1] = _mm256_unpackhi_epi16(low_ab, low_cd);
    const Register high_ab = _mm256_unpackhi_epi8(a, b), high_cd = _mm256_unpackhi_epi8(c, d);
    of[2] = _mm256_unpacklo_epi16(high_ab, high_cd);
    of[3] = _mm256_unpackhi_epi16(high_ab, high_cd);
  }
  RESPARSE_INLINE Register broadcast(int32_t value) { return _mm256_set1_epi32(value); }
};

template <>
struct Interleaved<16> {
  using Register = __m128i;
  static constexpr uint32_t kCount = 4;
  Register of[kCount];

  RESPARSE_INLINE Register read(const uint8_t* from) {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(from));
  }
  inline RESPARSE_INLINED Interleaved(const uint8_t* x, const uint16_t (&offsets)[4]) {
    const Register a = read(x + offsets[0]), b = read(x + offsets[1]);
    const Register c = read(x + offsets[2]), d = read(x + offsets[3]);
    const Register low_ab = _mm_unpacklo_epi8(a, b), low_cd = _mm_unpacklo_epi8(c, d);
    of[0] = _mm_unpacklo_epi16(low_ab, low_cd);
    of[1] = _mm_unpackhi_epi16(low_ab, low_cd);
    const Register high_ab = _mm_unpackhi_epi8(a, b), high_cd = _mm_unpackhi_epi8(c, d);
    of[2] = _mm_unpacklo_epi16(high_ab, high_cd);
    of[3] = _mm_unpackhi_epi16(high_ab, high_cd);
  }
  RESPARSE_INLINE Register broadcast(int32_t value) { return _mm_set1_epi32(value); }
};

template <>
struct Interleaved<8> {
  using Register = __m128i;
  static constexpr uint32_t kCount = 2;
  Register of[kCount];

  RESPARSE_INLINE Register read(const uint8_t* from) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  }
  inline RESPARSE_INLINED Interleaved(const uint8_t* x, const uint16_t (&offsets)[4]) {
    const Register ab = _mm_unpacklo_epi8(read(x + offsets[0]), read(x + offsets[1]));
    const Register cd = _mm_unpacklo_epi8(read(x + offsets[2]), read(x + offsets[3]));
    of[0] = _mm_unpacklo_epi16(ab, cd);
    of[1] = _mm_unpackhi_epi16(ab, cd);
  }
  RESPARSE_INLINE Register broadcast(int32_t value) { return _mm_set1_epi32(value); }
};

// A row's sums of all tokens, in the order of Interleaved.
template <uint32_t kTokens>
struct RowSums {
  using Of = Interleaved<kTokens>;
  typename Of::Register sums[Of::kCount];

  inline RESPARSE_INLINED void read(const int32_t* from) { __builtin_memcpy(sums, from, sizeof sums); }
  inline RESPARSE_INLINED void write(int32_t* to) const { __builtin_memcpy(to, sums, sizeof sums); }
  inline RESPARSE_INLINED void add(const uint8_t* x, const uint16_t (&offsets)[4], const int8_t (&weights)[4]) {
    int32_t four;
    __builtin_memcpy(&four, weights, sizeof four);
    const typename Of::Register broadcast = Of::broadcast(four);
    const Of inputs(x, offsets);
    for (uint32_t i = 0; i < Of::kCount; ++i) sums[i] = add_products(sums[i], inputs.of[i], broadcast);
  }
};

// The token of a lane, counted in a row's sums.
template <uint32_t kTokens>
constexpr uint32_t token_of(uint32_t lane) {
  // With 32 tokens, each half of a register has been interleaved by itself.
  return kTokens == 32 ? lane / 8 * 4 + lane % 4 + lane % 8 / 4 * 16 : lane;
}

// Transposes the sums of 8 rows for 8 tokens: rows[8][stride] to Sums.
template <uint32_t kTokens>
RESPARSE_INLINE void transpose_sums(const int32_t* rows, uint32_t first_lane, int32_t (*sums)[kPanelRows]) {
  __m256i a[8], b[8];
  for (uint32_t row = 0; row < 8; ++row)
    a[row] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows + row * kTokens + first_lane));
  for (uint32_t i = 0; i < 4; ++i) {
    b[2 * i] = _mm256_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm256_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
  }
  for (uint32_t i = 0; i < 2; ++i)
    for (uint32_t j = 0; j < 2; ++j) {
      a[4 * i + 2 * j] = _mm256_unpacklo_epi64(b[4 * i + j], b[4 * i + 2 + j]);
      a[4 * i + 2 * j + 1] = _mm256_unpackhi_epi64(b[4 * i + j], b[4 * i + 2 + j]);
    }
  for (uint32_t i = 0; i < 4; ++i) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums[token_of<kTokens>(first_lane + i)]),
                        _mm256_permute2x128_si256(a[i], a[4 + i], 0x20));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums[token_of<kTokens>(first_lane + 4 + i)]),
                        _mm256_permute2x128_si256(a[i], a[4 + i], 0x31));
  }
}

// A panel with up to kTokens tokens; all that many sums are written.
template <uint32_t kTokens>
void multiply_csr4_by(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, const int32_t* offsets,
                      Sums& sums) {
  alignas(kAlignment) int32_t rows[kPanelRows][kTokens];
  for (uint32_t row = 0; row < kPanelRows; ++row)
    for (uint32_t lane = 0; lane < kTokens; lane += 8)
      _mm256_store_si256(reinterpret_cast<__m256i*>(rows[row] + lane),
                         _mm256_set1_epi32(offsets == nullptr ? 0 : offsets[row]));
  const uint32_t blocks = csr4_blocks(weights.columns);
  const size_t block_bytes = size_t{csr4_block_columns(weights.columns)} * kCsr4Tokens;
  const uint32_t* start = weights.starts + size_t{panel} * blocks * kCsr4Pairs;
  const uint8_t* row = weights.pair_rows + size_t{panel} * blocks * kPanelRows;
  const auto* step = reinterpret_cast<const Csr4Step*>(weights.data) + *start;
  for (uint32_t block = 0; block < blocks; ++block, x += block_bytes)
    for (uint32_t pair = 0; pair < kCsr4Pairs; ++pair, row += 2) {
      const auto* const end = reinterpret_cast<const Csr4Step*>(weights.data) + *++start;
      RowSums<kTokens> first, second;
      first.read(rows[row[0]]);
      second.read(rows[row[1]]);
      for (; step < end; ++step) {
        first.add(x, step->offsets[0], step->weights[0]);
        second.add(x, step->offsets[1], step->weights[1]);
      }
      first.write(rows[row[0]]);
      second.write(rows[row[1]]);
    }
  for (uint32_t first = 0; first < kPanelRows; first += 8)
    for (uint32_t lane = 0; lane < kTokens; lane += 8)
      transpose_sums<kTokens>(rows[first], lane,
                              reinterpret_cast<int32_t(*)[kPanelRows]>(&sums.values[0][first]));
}

void multiply_csr4(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, uint32_t tokens,
                   const int32_t* offsets, Sums& sums) {
  const auto by = tokens > 16 ? multiply_csr4_by<32> : tokens > 8 ? multiply_csr4_by<16> : multiply_csr4_by<8>;
  by(weights, panel, x, offsets, sums);
}
