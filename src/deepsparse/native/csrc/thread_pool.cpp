#include "thread_pool.h"

#include <condition_variable>
#include <thread>
namespace resparse {
namespace {

// Number of polls, some microseconds, before a waiting thread yields its core.
constexpr int kPolls = 2000;

template <typename Condition>
void wait_until(const Condition& condition) {
  for (int polls = 0; !condition(); ++polls) {
    if (polls >= kPolls) {
      std::this_thread::yield();
      continue;
    }
#ifdef __x86_64__
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb");  // longer than `yield`, which most processors do not wait for
#endif
  }
}

uint32_t step_of(uint64_t state) { return static_cast<uint32_t>(state >> 32); }
uint32_t members_of(uint64_t state) { return static_cast<uint32_t>(state >> 16 & 0xffff); }
uint32_t finished_of(uint64_t state) { return static_cast<uint32_t>(state & 0xffff); }

}  // namespace

// Whether the thread becomes a member with this step; not if all members have finished it.
bool Team::join(uint32_t step) {
  // A thread that has skipped a step just before its end may be ahead of the others for a moment.
  wait_until([&] { return step_of(state_.load(std::memory_order_acquire)) >= step; });
  uint64_t state = state_.load(std::memory_order_acquire);
  while (step_of(state) == step && finished_of(state) < members_of(state))
    if (state_.compare_exchange_weak(state, state + (1 << 16), std::memory_order_acq_rel)) return true;
  return false;
}

void Team::wait(uint32_t step) {
  const uint64_t state = state_.fetch_add(1, std::memory_order_acq_rel) + 1;
  if (finished_of(state) == members_of(state)) {
    // No thread takes tasks now, and none can join before the next step is published.
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
  const Team* team = nullptr;  // the job's
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

  // Cancels a team's job; false where it has begun. The current job may already be another team's.
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

// Workers for a run of up to `threads` threads; counts them and the caller as busy.
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
  std::atomic<uint32_t> running{static_cast<uint32_t>(taken.size())};
  for (uint32_t i = 0; i < taken.size(); ++i)
    taken[i]->give(&team, [this, worker = taken[i], i, &team, &body, &running] {
      Team::Member member(team, i + 1);
      body(member, i + 1);
      give_back(worker);
      // The last access to the caller's stack frame.
      running.fetch_sub(1, std::memory_order_release);
    });
  Team::Member first(team, 0);
  body(first, 0);
  for (Worker* const worker : taken)
    if (worker->revoke(&team)) {
      give_back(worker);
      running.fetch_sub(1, std::memory_order_relaxed);
    }
  wait_until([&] { return running.load(std::memory_order_acquire) == 0; });
  const std::lock_guard<std::mutex> lock(mutex_);
  --busy_;
}

}  // namespace resparse
