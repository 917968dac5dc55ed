// The threads that all models of a process share.
//
// A run is done by a team: the caller's thread and whichever workers are idle then. The team goes through the run
// together; its threads take small pieces of each step as they get free, and wait for each other between steps. So a
// lone run has all cores, runs side by side have one each, and a thread that a busy neighbour holds up is waited for
// with a piece, not with its share.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace resparse {

class Team {
 public:
  explicit Team(uint32_t size) : size_(size) {}

  uint32_t size() const { return size_; }

  // One step: piece(i) for every i below `count`, by whichever thread; returns when all are done, in all threads.
  template <typename Piece>
  void step(uint32_t count, const Piece& piece) {
    for (uint32_t i = next_.fetch_add(1, std::memory_order_relaxed); i < count;
         i = next_.fetch_add(1, std::memory_order_relaxed))
      piece(i);
    meet();
  }

 private:
  void meet();

  const uint32_t size_;
  alignas(64) std::atomic<uint32_t> next_{0};
  alignas(64) std::atomic<uint32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> steps_{0};
};

class Pool {
 public:
  using Body = std::function<void(Team&, uint32_t thread)>;

  // The process's own.
  static Pool& instance();

  // Call body(team, thread) in the caller's thread and in up to `threads` - 1 idle workers; returns when all are done.
  // The body must not throw.
  void run(uint32_t threads, const Body& body);

  ~Pool();

 private:
  struct Worker;

  std::vector<Worker*> take(uint32_t count);

  std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> idle_;
};

}  // namespace resparse
