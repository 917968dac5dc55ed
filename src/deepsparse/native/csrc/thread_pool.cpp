#include "thread_pool.h"

#include <chrono>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace resparse {
namespace {

// How long a thread polls before it gives up its core: about what it costs to sleep and be woken up.
constexpr std::chrono::microseconds kPatience{50};
constexpr int kPollsAtOnce = 16;

void relax() {
#ifdef __x86_64__
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");  // longer than `yield`, which most processors do not wait for
#endif
}

// Whether the condition has come true within kPatience.
template <typename Condition>
bool poll(const Condition& condition) {
  for (int i = 0; i < kPollsAtOnce; ++i, relax())
    if (condition()) return true;
  const auto end = std::chrono::steady_clock::now() + kPatience;
  do {
    for (int i = 0; i < kPollsAtOnce; ++i, relax())
      if (condition()) return true;
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

uint32_t step_of(uint64_t state) { return static_cast<uint32_t>(state >> 32); }
uint32_t members_of(uint64_t state) { return static_cast<uint32_t>(state >> 16 & 0xffff); }
uint32_t finished_of(uint64_t state) { return static_cast<uint32_t>(state & 0xffff); }

}  // namespace

// Whether the thread becomes a member with this step; not if all members have finished it.
bool Team::join(uint32_t step) {
  // A thread that has skipped a step just before its end is ahead of the others for a moment.
  if (!poll([&] { return step_of(state_.load(std::memory_order_acquire)) >= step; })) sleep_until(step);
  uint64_t state = state_.load(std::memory_order_acquire);
  while (step_of(state) == step && finished_of(state) < members_of(state))
    if (state_.compare_exchange_weak(state, state + (1 << 16), std::memory_order_acq_rel)) return true;
  return false;
}

// Waits until all members have finished the step; false where the thread has left the team meanwhile.
bool Team::wait(uint32_t step) {
  const uint64_t state = state_.fetch_add(1, std::memory_order_acq_rel) + 1;
  if (finished_of(state) == members_of(state)) {
    publish(step + 1, members_of(state));
    return true;
  }
  while (!poll([&] { return step_of(state_.load(std::memory_order_acquire)) != step; })) {
    if (leave(step)) {
      sleep_until(step + 1);
      return false;
    }
    std::this_thread::yield();
  }
  return true;
}

// Begins a step; nobody takes tasks now, and none can join before it is published.
void Team::publish(uint32_t step, uint32_t members) {
  for (Range& range : ranges_) range.next.store(0, std::memory_order_relaxed);
  state_.store(uint64_t{step} << 32 | uint64_t{members} << 16);
  // In this order, and in the opposite one in sleep_until: no thread falls asleep unseen.
  if (sleepers_.load() == 0) return;
  { const std::lock_guard<std::mutex> lock(mutex_); }
  next_step_.notify_all();
}

// Leaves the team, having finished the step; false where all have, and the next one begins.
bool Team::leave(uint32_t step) {
  uint64_t state = state_.load(std::memory_order_acquire);
  while (step_of(state) == step && finished_of(state) < members_of(state))
    if (state_.compare_exchange_weak(state, state - (1 << 16) - 1, std::memory_order_acq_rel)) return true;
  return false;
}

void Team::sleep_until(uint32_t step) {
  std::unique_lock<std::mutex> lock(mutex_);
  sleepers_.fetch_add(1);
  next_step_.wait(lock, [&] { return step_of(state_.load()) >= step; });
  sleepers_.fetch_sub(1);
}

// Counts threads that are not done yet.
class Countdown {
 public:
  explicit Countdown(uint32_t count) : count_(count) {}

  void done() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--count_ == 0) zero_.notify_one();
  }

  void wait() {
    poll([&] { return count_.load(std::memory_order_acquire) == 0; });
    // Taken in any case: the last thread may still hold it.
    std::unique_lock<std::mutex> lock(mutex_);
    zero_.wait(lock, [&] { return count_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable zero_;
  std::atomic<uint32_t> count_;
};

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

uint32_t Pool::cores() const {
  if (assumed_cores_ != 0) return assumed_cores_;
#ifdef __linux__
  cpu_set_t usable;
  if (sched_getaffinity(0, sizeof usable, &usable) == 0) return static_cast<uint32_t>(CPU_COUNT(&usable));
#endif
  const uint32_t cores = std::thread::hardware_concurrency();
  return cores == 0 ? ~0u : cores;  // it could not be told
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
  Countdown running(static_cast<uint32_t>(taken.size()));
  for (uint32_t i = 0; i < taken.size(); ++i)
    taken[i]->give(&team, [this, worker = taken[i], i, &team, &body, &running] {
      Team::Member member(team, i + 1);
      body(member, i + 1);
      give_back(worker);
      // The last access to the caller's stack frame.
      running.done();
    });
  Team::Member first(team, 0);
  body(first, 0);
  for (Worker* const worker : taken)
    if (worker->revoke(&team)) {
      give_back(worker);
      running.done();
    }
  running.wait();
  const std::lock_guard<std::mutex> lock(mutex_);
  --busy_;
}

}  // namespace resparse
