// What all parts of the engine use: its exception, alignment, and aligned memory.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>

namespace resparse {

// Thrown for bad arguments and damaged models; the C interface turns it into a return value and a message.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr size_t kAlignment = 64;  // bytes; of every array in a packed model, and of every Buffer

constexpr size_t round_up(size_t value, size_t step) { return (value + step - 1) / step * step; }
constexpr uint32_t divide_up(uint32_t value, uint32_t by) { return (value + by - 1) / by; }

// Aligned, zeroed memory, readable one vector past its end.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count) {
    const size_t bytes = round_up(count * sizeof(T), kAlignment) + kAlignment;
    memory_.reset(static_cast<T*>(std::aligned_alloc(kAlignment, bytes)));
    if (memory_ == nullptr) throw std::bad_alloc();
    std::memset(memory_.get(), 0, bytes);
  }

  T* data() const { return memory_.get(); }
  T& operator[](size_t index) { return memory_.get()[index]; }

 private:
  struct Free {
    void operator()(T* memory) const { std::free(memory); }
  };
  std::unique_ptr<T, Free> memory_;
};

}  // namespace resparse
