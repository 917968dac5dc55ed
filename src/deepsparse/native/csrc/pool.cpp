#include "pool.h"

#include "isa.h"

namespace resparse {
namespace {

// Waiting threads look again this many times before they offer the processor to others, some microseconds.
constexpr int kLooks = 2000;

inline void pause() {
#ifdef RESPARSE_X86
  __builtin_ia32_pause();
#endif
}

}  // namespace

void Team::meet() {
  if (size_ == 1) {
    next_.store(0, std::memory_order_relaxed);
    return;
  }
  const uint32_t step = steps_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    // Nobody takes pieces now: all have come here.
    arrived_.store(0, std::memory_order_relaxed);
    next_.store(0, std::memory_order_relaxed);
    steps_.store(step + 1, std::memory_order_release);
    return;
  }
  for (int looks = 0; steps_.load(std::memory_order_acquire) == step; ++looks) {
    if (looks < kLooks) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
}

// A thread that sleeps until it is given a body.
struct Pool::Worker {
  std::mutex mutex;
  std::condition_variable wake;
  std::function<void()> job;
  bool stopping = false;
  std::thread thread{[this] { work(); }};

  void give(std::function<void()> what) {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      job = std::move(what);
    }
    wake.notify_one();
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

Pool& Pool::instance() {
  static Pool pool;
  return pool;
}

Pool::~Pool() {
  for (auto& worker : workers_) worker->stop();
}

std::vector<Pool::Worker*> Pool::take(uint32_t count) {
  const std::lock_guard<std::mutex> lock(mutex_);
  while (workers_.size() < count) {
    workers_.push_back(std::make_unique<Worker>());
    idle_.push_back(workers_.back().get());
  }
  std::vector<Worker*> taken;
  while (taken.size() < count && !idle_.empty()) {
    taken.push_back(idle_.back());
    idle_.pop_back();
  }
  return taken;
}

void Pool::run(uint32_t threads, const Body& body) {
  const std::vector<Worker*> taken = threads > 1 ? take(threads - 1) : std::vector<Worker*>{};
  Team team(static_cast<uint32_t>(taken.size()) + 1);
  std::atomic<uint32_t> left{static_cast<uint32_t>(taken.size())};
  for (uint32_t i = 0; i < taken.size(); ++i) {
    Worker* const worker = taken[i];
    worker->give([this, worker, i, &team, &body, &left] {
      body(team, i + 1);
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        idle_.push_back(worker);
      }
      // The last touch of what lives in the caller's frame.
      left.fetch_sub(1, std::memory_order_release);
    });
  }
  body(team, 0);
  for (int looks = 0; left.load(std::memory_order_acquire) != 0; ++looks) {
    if (looks < kLooks) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace resparse
