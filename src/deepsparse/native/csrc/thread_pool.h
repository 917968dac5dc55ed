// The thread pool that all models of a process share.
//
// A run is executed by a team: the caller's thread, and workers that are idle when it begins. The team executes the
// run's steps one after the other, with a barrier after each; threads take the tasks of a step dynamically. A worker
// that wakes up late joins at the current step, and is never waited for before it has joined. A member that has waited
// for long leaves the team and sleeps, so that whoever it waits for has a core, and joins again at a later step. So a
// single run uses all cores, concurrent runs share them, and on a busy machine a run is not slower than with one thread.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace resparse {

class Team {
 public:
  // `threads`: upper bound of the members.
  explicit Team(uint32_t threads) : ranges_(threads) {}

  // A thread's participation. Every thread has a Member of its own, and calls the same steps in the same order.
  class Member {
   public:
    // `thread`: index in the team; thread 0 is a member from the beginning.
    Member(Team& team, uint32_t thread) : team_(team), thread_(thread), joined_(thread == 0) {}

    uint32_t thread() const { return thread_; }

    // Executes task(i) for every i below `count`, each on one of the threads; returns when all are done. A thread
    // begins with its own range, the same part of every step, so that its caches hold what it has written before; then
    // it steals from the other ranges. Steps that ended before this thread joined are skipped.
    template <typename Task>
    void step(uint32_t count, const Task& task) {
      const uint32_t step = step_++;
      if (!joined_ && !(joined_ = team_.join(step))) return;
      const auto ranges = static_cast<uint32_t>(team_.ranges_.size());
      for (uint32_t i = 0; i < ranges; ++i) {
        const uint32_t range = (thread_ + i) % ranges;
        const auto first = static_cast<uint32_t>(uint64_t{count} * range / ranges);
        const auto end = static_cast<uint32_t>(uint64_t{count} * (range + 1) / ranges);
        for (uint32_t at = first + team_.take(range); at < end; at = first + team_.take(range)) task(at);
      }
      joined_ = team_.wait(step);
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
  bool wait(uint32_t step);
  bool leave(uint32_t step);
  void publish(uint32_t step, uint32_t members);
  void sleep_until(uint32_t step);

  // The current step (32 bits), the number of members, and the number of those that have finished it (16 bits each).
  alignas(64) std::atomic<uint64_t> state_{1 << 16};
  std::vector<Range> ranges_;
  // Threads that sleep until the next step.
  std::atomic<uint32_t> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable next_step_;
};

class Pool {
 public:
  using Body = std::function<void(Team::Member&, uint32_t thread)>;

  // The pool of this process.
  static Pool& instance();

  // Calls body(member, thread) in the caller's thread and in up to `threads` - 1 idle workers, minus the threads that
  // other runs use; returns when all steps are done. Outside of steps, the body must do nothing that other threads
  // depend on; it must not throw.
  void run(uint32_t threads, const Body& body);

  // The cores that this thread may run on; more threads would only wait for one another.
  uint32_t cores() const;

  // For tests: as if there were so many.
  void assume_cores(uint32_t cores) { assumed_cores_ = cores; }

  Pool();
  ~Pool();

 private:
  struct Worker;

  std::vector<Worker*> take(uint32_t threads);
  void give_back(Worker* worker);

  std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> idle_;
  uint32_t busy_ = 0;  // threads of all current runs, including their callers
  uint32_t assumed_cores_ = 0;
};

}  // namespace resparse
