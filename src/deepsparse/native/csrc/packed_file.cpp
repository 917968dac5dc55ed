// The functions of resparse.h: packed models from files.

#include "packed_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../include/resparse.h"
#include "encoder.h"
#include "guarded.h"
#include "model.h"

namespace resparse {
namespace {

// A file, mapped as long as this lives.
class Mapping {
 public:
  explicit Mapping(const char* path) {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) throw Error(std::string(path) + ": " + std::strerror(errno));
    struct stat found {};
    const bool is_known = fstat(file, &found) == 0 && found.st_size > 0;
    size_ = is_known ? static_cast<size_t>(found.st_size) : 0;
    void* const mapped = is_known ? mmap(nullptr, size_, PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;
    close(file);
    if (mapped == MAP_FAILED) throw Error(std::string(path) + " is empty, or cannot be mapped");
    data_ = static_cast<const uint8_t*>(mapped);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { munmap(const_cast<uint8_t*>(data_), size_); }

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

[[noreturn]] void damaged(const char* what) {
  throw Error(std::string("the packed model is damaged: ") + what + "; pack it again");
}

bool lies_within(uint64_t place, uint64_t size, size_t whole) { return place <= whole && size <= whole - place; }

const PackedFile& checked_record(const Mapping& file) {
  const auto* const record = reinterpret_cast<const PackedFile*>(file.data());
  if (file.size() < sizeof(PackedFile) || record->magic != kFileMagic) throw Error("this is no file of deepsparse.pack");
  if (record->version != kFileVersion) throw Error("the file is of another version; pack the model again");
  if (!lies_within(record->names, record->names_size, file.size()) ||
      !lies_within(record->model, record->model_size, file.size()) || record->model % kFileAlignment != 0)
    damaged("its parts do not lie in it");
  return *record;
}

void check_sums(const Mapping& file, const PackedFile& record) {
  uint64_t sum = 0, weighted = 0, number = 0;
  for (size_t place = sizeof(PackedFile); place + 8 <= file.size(); place += 8) {
    uint64_t word;
    std::memcpy(&word, file.data() + place, 8);
    sum += word;
    weighted += word * ++number;
  }
  if (file.size() % 8 != 0 || sum != record.sums[0] || weighted != record.sums[1]) damaged("its sums differ");
}

std::vector<std::string> names_of(const Mapping& file, const PackedFile& record) {
  std::vector<std::string> names;
  const char* next = reinterpret_cast<const char*>(file.data() + record.names);
  const char* const end = next + record.names_size;
  while (next != end) {
    const char* const zero = std::find(next, end, '\0');
    if (zero == end) damaged("a label's name has no end");
    names.emplace_back(next, zero);
    next = zero + 1;
  }
  if (names.size() != record.labels) damaged("names are missing");
  return names;
}

}  // namespace
}  // namespace resparse

using namespace resparse;

struct resparse_model {
  explicit resparse_model(const char* path)
      : file(path), record(checked_record(file)), names(names_of(file, record)) {
    check_sums(file, record);
    opened = open_model(file.data() + record.model, record.model_size);
    if (opened.record->labels != record.labels) damaged("it has another number of labels");
  }

  // The position of each token.
  std::vector<int32_t> positions(const int32_t* ids, const int64_t* starts, int32_t texts) const {
    std::vector<int32_t> found(static_cast<size_t>(starts[texts]));
    for (int32_t text = 0; text < texts; ++text) {
      int32_t number = record.padding == kAllCounted ? -1 : record.offset;
      for (int64_t token = starts[text]; token < starts[text + 1]; ++token)
        found[token] = ids[token] == record.padding && record.padding != kAllCounted ? record.offset : ++number;
    }
    return found;
  }

  Mapping file;
  const PackedFile& record;
  std::vector<std::string> names;
  OpenModel opened;
};

RESPARSE_API resparse_model* resparse_load(const char* path) {
  return guarded(static_cast<resparse_model*>(nullptr), [&] { return std::make_unique<resparse_model>(path).release(); });
}

RESPARSE_API void resparse_free(resparse_model* model) { delete model; }

RESPARSE_API int32_t resparse_labels(const resparse_model* model) { return static_cast<int32_t>(model->names.size()); }

RESPARSE_API const char* resparse_label(const resparse_model* model, int32_t label) {
  const bool is_there = label >= 0 && label < resparse_labels(model);
  return is_there ? model->names[static_cast<size_t>(label)].c_str() : nullptr;
}

RESPARSE_API int32_t resparse_is_token_level(const resparse_model* model) {
  return model->opened.record->head_tokens == kEveryToken ? 1 : 0;
}

RESPARSE_API int32_t resparse_longest(const resparse_model* model) {
  return static_cast<int32_t>(model->record.longest);
}

RESPARSE_API int resparse_infer(const resparse_model* model, const int32_t* ids, const int32_t* types,
                                const int64_t* starts, int32_t texts, int32_t threads, float* logits) {
  return guarded(-1, [&] {
    if (texts < 0) throw Error("a count of texts below 0");
    if (texts == 0) return 0;
    if (starts[0] != 0) throw Error("the first text does not begin at 0");
    for (int32_t text = 0; text < texts; ++text) {
      if (starts[text + 1] <= starts[text]) throw Error("a text has no tokens");
      if (starts[text + 1] - starts[text] > model->record.longest)
        throw Error("a text has more than the " + std::to_string(model->record.longest) + " tokens that the model takes");
    }
    const std::vector<int32_t> positions = model->positions(ids, starts, texts);
    run(model->opened,
        Batch{ids, model->record.takes_types != 0 ? types : nullptr, positions.data(), starts,
              static_cast<uint32_t>(texts)},
        static_cast<uint32_t>(std::max(threads, 1)), logits);
    return 0;
  });
}
