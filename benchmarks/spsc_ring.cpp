// The floor in C++: one producer thread, one consumer thread, a bounded ring of 16-byte records between them.
//
// The usual design of a fast single-producer single-consumer queue: a power-of-two capacity, cursors that only
// grow and are masked on use, each on lines of its own, and on either side a copy of the other one's cursor that
// is read again only when the ring looks full (or empty), so that in steady state the cursors' lines rarely move
// between cores. A cursor is released once per batch of records. Each side keeps its own cursor and its copy in
// an object of its own thread, where they live in registers.
//
// Every function checks each record that it brought over, so that a time is a time of work that was done.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <thread>

namespace {

constexpr std::size_t LINE = 128;  // two 64-byte lines: the adjacent-line prefetcher pulls pairs
constexpr int PATIENCE = 1 << 16;  // passes until a spinning side lets others run: there may be one core only

using Cursor = std::uint64_t;
using Clock = std::chrono::steady_clock;

struct Record {
    std::int64_t id;
    double value;
};

double value_of(std::int64_t id) { return 0.5 * static_cast<double>(id); }

#ifdef SEEDED_FAULT  // tests only: the record of this id is damaged on its way
void write(Record& slot, std::int64_t id) { slot = {id, value_of(id) + (id == SEEDED_FAULT ? 1.0 : 0.0)}; }
#else
void write(Record& slot, std::int64_t id) { slot = {id, value_of(id)}; }
#endif

std::int64_t is_wrong(const Record& slot, std::int64_t id) { return (slot.id != id) | (slot.value != value_of(id)); }

class Spin {
public:
    void pause() {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
        if (++passes_ == PATIENCE) {
            passes_ = 0;
            std::this_thread::yield();
        }
    }

private:
    int passes_ = 0;
};

struct AlignedDelete {
    void operator()(void* memory) const { ::operator delete(memory, std::align_val_t{4096}); }
};

template <typename T>
using Aligned = std::unique_ptr<T[], AlignedDelete>;

template <typename T>  // zeroed, so every page is there before a clock starts
Aligned<T> zeroed(std::size_t count) {
    void* memory = ::operator new(count * sizeof(T), std::align_val_t{4096});
    std::memset(memory, 0, count * sizeof(T));
    return Aligned<T>(static_cast<T*>(memory));
}

struct Ring {
    explicit Ring(Cursor capacity) : slots(zeroed<Record>(capacity)), mask(capacity - 1) {}

    alignas(LINE) Aligned<Record> slots;
    Cursor mask;
    alignas(LINE) std::atomic<Cursor> tail{0};  // written by the producer: records published
    alignas(LINE) std::atomic<Cursor> head{0};  // written by the consumer: records taken
    char rest_of_line[LINE - sizeof(std::atomic<Cursor>)];
};

class Producer {
public:
    explicit Producer(Ring& ring) : ring_(ring), slots_(ring.slots.get()), mask_(ring.mask) {}

    // How many slots can be written from `slot()` on: `wanted`, or as many as there are up to the ring's end.
    // Waits for room for all of them: a producer that takes any room there is chases the consumer slot by slot.
    Cursor claim(Cursor wanted) {
        const Cursor count = std::min(wanted, mask_ + 1 - (tail_ & mask_));
        const Cursor most = mask_ + 1 - count;  // records that may still wait
        if (tail_ - head_ > most) {
            head_ = ring_.head.load(std::memory_order_acquire);  // acquire: the consumer has read what it freed
            for (Spin spin; tail_ - head_ > most; head_ = ring_.head.load(std::memory_order_acquire)) spin.pause();
        }
        return count;
    }

    Record* slot() const { return slots_ + (tail_ & mask_); }

    void publish(Cursor count) {
        tail_ += count;
        ring_.tail.store(tail_, std::memory_order_release);  // release: the slots written above
    }

private:
    Ring& ring_;
    Record* const slots_;
    const Cursor mask_;
    Cursor tail_ = 0;
    Cursor head_ = 0;  // as last seen
};

class Consumer {
public:
    explicit Consumer(Ring& ring) : ring_(ring), slots_(ring.slots.get()), mask_(ring.mask) {}

    // How many records can be read in one piece from `slot()` on, at most `wanted`. Waits until there is one.
    Cursor available(Cursor wanted) {
        if (head_ == tail_) {
            tail_ = ring_.tail.load(std::memory_order_acquire);  // acquire: the slots that were published
            for (Spin spin; head_ == tail_; tail_ = ring_.tail.load(std::memory_order_acquire)) spin.pause();
        }
        const Cursor index = head_ & mask_;
        return std::min({wanted, tail_ - head_, mask_ + 1 - index});
    }

    const Record* slot() const { return slots_ + (head_ & mask_); }

    void release(Cursor count) {
        head_ += count;
        ring_.head.store(head_, std::memory_order_release);  // release: our reads of these slots are over
    }

private:
    Ring& ring_;
    const Record* const slots_;
    const Cursor mask_;
    Cursor head_ = 0;
    Cursor tail_ = 0;  // as last seen
};

template <bool IS_SINGLE>
void produce(Ring& ring, std::int64_t messages, Cursor batch) {
    Producer producer(ring);
    for (std::int64_t id = 0; id < messages;) {
        const Cursor wanted = IS_SINGLE ? 1 : std::min<Cursor>(batch, messages - id);
        const Cursor count = producer.claim(wanted);
        Record* const slot = producer.slot();
        for (Cursor i = 0; i < (IS_SINGLE ? 1 : count); i++) write(slot[i], id + i);
        producer.publish(IS_SINGLE ? 1 : count);
        id += IS_SINGLE ? 1 : count;
    }
}

template <bool IS_SINGLE>
std::int64_t consume(Ring& ring, std::int64_t messages, Cursor batch) {
    Consumer consumer(ring);
    std::int64_t wrong = 0;
    for (std::int64_t id = 0; id < messages;) {
        const Cursor count = consumer.available(IS_SINGLE ? 1 : batch);
        const Record* const slot = consumer.slot();
        for (Cursor i = 0; i < (IS_SINGLE ? 1 : count); i++) wrong += is_wrong(slot[i], id + i);
        consumer.release(IS_SINGLE ? 1 : count);
        id += IS_SINGLE ? 1 : count;
    }
    return wrong;
}

// Runs both in threads of their own; the clock starts when both are there and stops when both are done.
template <typename First, typename Second>
double seconds_side_by_side(First first, Second second) {
    std::atomic<int> arrived{0};
    Clock::time_point begun[2], ended[2];
    const auto timed = [&](int side, auto& work) {
        arrived.fetch_add(1, std::memory_order_acq_rel);
        for (Spin spin; arrived.load(std::memory_order_acquire) < 2;) spin.pause();
        begun[side] = Clock::now();
        work();
        ended[side] = Clock::now();
    };
    std::thread one([&] { timed(0, first); });
    std::thread two([&] { timed(1, second); });
    one.join();
    two.join();
    const auto elapsed = std::max(ended[0], ended[1]) - std::min(begun[0], begun[1]);
    return std::chrono::duration<double>(elapsed).count();
}

}  // namespace

// Each returns how many records came out wrong, or -1 when there is no memory or no thread for it.
extern "C" {

std::int64_t spsc_one_way(std::int64_t messages, std::int64_t capacity, std::int64_t batch, double* seconds) try {
    Ring ring(capacity);
    std::int64_t wrong = 0;
    if (batch == 1)
        *seconds = seconds_side_by_side([&] { produce<true>(ring, messages, 1); },
                                        [&] { wrong = consume<true>(ring, messages, 1); });
    else
        *seconds = seconds_side_by_side([&] { produce<false>(ring, messages, batch); },
                                        [&] { wrong = consume<false>(ring, messages, batch); });
    return wrong;
} catch (const std::exception&) {
    return -1;
}

std::int64_t spsc_round_trip(std::int64_t round_trips, double* seconds) try {
    constexpr Cursor CAPACITY = 1024;
    Ring there(CAPACITY), back(CAPACITY);
    std::int64_t wrong_there = 0, wrong_back = 0;
    const auto ping = [&] {
        Producer producer(there);
        Consumer consumer(back);
        for (std::int64_t id = 0; id < round_trips; id++) {
            producer.claim(1);
            write(*producer.slot(), id);
            producer.publish(1);
            consumer.available(1);
            wrong_back += is_wrong(*consumer.slot(), -id);
            consumer.release(1);
        }
    };
    const auto pong = [&] {
        Consumer consumer(there);
        Producer producer(back);
        for (std::int64_t id = 0; id < round_trips; id++) {
            consumer.available(1);
            wrong_there += is_wrong(*consumer.slot(), id);
            consumer.release(1);
            producer.claim(1);
            write(*producer.slot(), -id);
            producer.publish(1);
        }
    };
    *seconds = seconds_side_by_side(ping, pong);
    return wrong_there + wrong_back;
} catch (const std::exception&) {
    return -1;
}

}  // extern "C"
