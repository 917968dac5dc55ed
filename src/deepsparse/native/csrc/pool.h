// The threads that all models of a process share.
//
// A run is done by a team: the caller's thread, and workers that were idle when it began. The team goes through the
// run's steps together; its threads take small pieces of each step as they get free. Nobody is waited for who has not
// come yet: a worker that wakes up late joins at the step that the others have reached, and one that never does is sent
// back. So a lone run has all cores, runs side by side have one each, and on a busy machine a run takes no longer than
// it would alone.

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace resparse {

class Team {
 public:
  // `threads`: members at most, those included that never come.
  explicit Team(uint32_t threads) : ranges_(threads) {}

  // One thread's way through the steps; every thread has its own, and calls the same steps in the same order.
  class Member {
   public:
    // `thread`: below the team's count; the first one, 0, is there from the beginning.
    Member(Team& team, uint32_t thread) : team_(team), thread_(thread), joined_(thread == 0) {}

    // piece(i) for every i below `count`, by whichever thread; returns when all are done. Every thread begins with a
    // range of its own, the same part of each step, so that it finds in its caches what it has written; then it takes
    // from the others' ranges. Steps that were over when this thread came are passed by.
    template <typename Piece>
    void step(uint32_t count, const Piece& piece) {
      const uint32_t step = step_++;
      if (!joined_ && !(joined_ = team_.join(step))) return;
      const auto ranges = static_cast<uint32_t>(team_.ranges_.size());
      for (uint32_t i = 0; i < ranges; ++i) {
        const uint32_t range = (thread_ + i) % ranges;
        const auto first = static_cast<uint32_t>(uint64_t{count} * range / ranges);
        const auto end = static_cast<uint32_t>(uint64_t{count} * (range + 1) / ranges);
        for (uint32_t at = first + team_.take(range); at < end; at = first + team_.take(range)) piece(at);
      }
      team_.meet(step);
    }

   private:
    Team& team_;
    uint32_t thread_, step_ = 0;
    bool joined_;
  };

 private:
  struct alignas(64) Range {
    std::atomic<uint32_t> next{0};
  };

  uint32_t take(uint32_t range) { return ranges_[range].next.fetch_add(1, std::memory_order_relaxed); }
  bool join(uint32_t step);
  void meet(uint32_t step);

  // The step under way (32 bits), the threads that take part, and those that are through with it (16 bits each).
  alignas(64) std::atomic<uint64_t> state_{1 << 16};
  std::vector<Range> ranges_;
};

class Pool {
 public:
  using Body = std::function<void(Team::Member&, uint32_t thread)>;

  // The process's own.
  static Pool& instance();

  // Call body(member, thread) in the caller's thread and in up to `threads` - 1 idle workers, fewer by as many threads
  // as other runs have; returns when all steps are done. The body does nothing outside of steps that others rely on,
  // and does not throw.
  void run(uint32_t threads, const Body& body);

  Pool();
  ~Pool();

 private:
  struct Worker;

  std::vector<Worker*> take(uint32_t threads);
  void give_back(Worker* worker);

  std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> idle_;
  uint32_t busy_ = 0;  // threads of all runs under way, their callers' included
};

}  // namespace resparse
