#include "pool.h"

#include <condition_variable>
#include <thread>

#include "isa.h"

namespace resparse {
namespace {

// Waiting threads look again this many times before they offer the processor to others, some microseconds.
constexpr int kLooks = 2000;

template <typename Condition>
void wait_until(const Condition& condition) {
  for (int looks = 0; !condition(); ++looks) {
    if (looks >= kLooks) {
      std::this_thread::yield();
      continue;
    }
#ifdef RESPARSE_X86
    __builtin_ia32_pause();
#endif
  }
}

uint32_t step_of(uint64_t state) { return static_cast<uint32_t>(state >> 32); }
uint32_t members_of(uint64_t state) { return static_cast<uint32_t>(state >> 16 & 0xffff); }
uint32_t through_of(uint64_t state) { return static_cast<uint32_t>(state & 0xffff); }

}  // namespace

// Whether the thread takes part from this step on; not if the step is over, or all but over.
bool Team::join(uint32_t step) {
  // Having passed by a step that was all but over, the thread may be ahead of the others for a moment.
  wait_until([&] { return step_of(state_.load(std::memory_order_acquire)) >= step; });
  uint64_t state = state_.load(std::memory_order_acquire);
  while (step_of(state) == step && through_of(state) < members_of(state))
    if (state_.compare_exchange_weak(state, state + (1 << 16), std::memory_order_acq_rel)) return true;
  return false;
}

void Team::meet(uint32_t step) {
  const uint64_t state = state_.fetch_add(1, std::memory_order_acq_rel) + 1;
  if (through_of(state) == members_of(state)) {
    // Nobody takes pieces now, and nobody can join until the next step is proclaimed.
    for (Range& range : ranges_) range.next.store(0, std::memory_order_relaxed);
    state_.store(uint64_t{step + 1} << 32 | uint64_t{members_of(state)} << 16, std::memory_order_release);
    return;
  }
  wait_until([&] { return step_of(state_.load(std::memory_order_acquire)) != step; });
}

// A thread that sleeps until it is given a job.
struct Pool::Worker {
  std::mutex mutex;
  std::condition_variable wake;
  std::function<void()> job;
  const Team* team = nullptr;  // that the job is for
  bool stopping = false;
  std::thread thread{[this] { work(); }};

  void give(const Team* whose, std::function<void()> what) {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      job = std::move(what);
      team = whose;
    }
    wake.notify_one();
  }

  // Take a team's job back; false where it has begun. The job may be another team's by now.
  bool revoke(const Team* whose) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!job || team != whose) return false;
    job = nullptr;
    return true;
  }

  void stop() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      stopping = true;
    }
    wake.notify_one();
    thread.join();
  }

  void work() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      wake.wait(lock, [this] { return stopping || job; });
      if (!job) return;
      const std::function<void()> now = std::move(job);
      job = nullptr;
      lock.unlock();
      now();
      lock.lock();
    }
  }
};

Pool::Pool() = default;

Pool::~Pool() {
  for (auto& worker : workers_) worker->stop();
}

Pool& Pool::instance() {
  static Pool pool;
  return pool;
}

// Workers for a run that may have so many threads; the run's own thread is counted as busy with them.
std::vector<Pool::Worker*> Pool::take(uint32_t threads) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const uint32_t count = threads > busy_ + 1 ? threads - busy_ - 1 : 0;
  while (idle_.size() < count) {
    workers_.push_back(std::make_unique<Worker>());
    idle_.push_back(workers_.back().get());
  }
  const std::vector<Worker*> taken(idle_.end() - count, idle_.end());
  idle_.resize(idle_.size() - count);
  busy_ += count + 1;
  return taken;
}

void Pool::give_back(Worker* worker) {
  const std::lock_guard<std::mutex> lock(mutex_);
  idle_.push_back(worker);
  --busy_;
}

void Pool::run(uint32_t threads, const Body& body) {
  const std::vector<Worker*> taken = take(threads);
  Team team(static_cast<uint32_t>(taken.size()) + 1);
  std::atomic<uint32_t> at_work{static_cast<uint32_t>(taken.size())};
  for (uint32_t i = 0; i < taken.size(); ++i)
    taken[i]->give(&team, [this, worker = taken[i], i, &team, &body, &at_work] {
      Team::Member member(team, i + 1);
      body(member, i + 1);
      give_back(worker);
      // The last touch of what lives in the caller's frame.
      at_work.fetch_sub(1, std::memory_order_release);
    });
  Team::Member first(team, 0);
  body(first, 0);
  for (Worker* const worker : taken)
    if (worker->revoke(&team)) {
      give_back(worker);
      at_work.fetch_sub(1, std::memory_order_relaxed);
    }
  wait_until([&] { return at_work.load(std::memory_order_acquire) == 0; });
  const std::lock_guard<std::mutex> lock(mutex_);
  --busy_;
}

}  // namespace resparse
