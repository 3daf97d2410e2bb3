/* Acquire, release and full fences over the compiler's __atomic builtins: Cython has no stdatomic of its own.
 *
 * Every access to memory that a peer can write goes through one of these, so that it is read or written once, whole,
 * and in the order that the ring protocol needs. */
#ifndef MEMIF_ATOMICS_H
#define MEMIF_ATOMICS_H

#include <stdint.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

static inline uint16_t memif_load_acquire(const volatile uint16_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline uint16_t memif_load16(const volatile uint16_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline uint32_t memif_load32(const volatile uint32_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline uint64_t memif_load64(const volatile uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline void memif_store_release(volatile uint16_t *p, uint16_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline void memif_store16(volatile uint16_t *p, uint16_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline void memif_store32(volatile uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline void memif_store64(volatile uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }

/* Two words side by side, by one store where the machine has such: see TxRing.put_singly. Nobody may look at them before
 * a later memif_store_release, so it does not matter in which order they become visible. */
static inline void memif_store_pair(uint64_t *p, uint64_t low, uint64_t high) {
#ifdef __SSE2__
    _mm_storeu_si128((__m128i *)p, _mm_set_epi64x((long long)high, (long long)low));
#else
    p[0] = low;
    p[1] = high;
#endif
}

/* Orders a store before a later load (index before MASK_INT, MASK_INT before index): the only place that needs it. */
static inline void memif_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/* Private flags shared by threads of this process only.
 *
 * A lock is taken by threads that hold the interpreter lock, so no second one can come between the look and the store;
 * it may be dropped, and waited for, without. An atomic exchange would first wait until every store of the last burst has
 * reached the peer's core, which takes longer than all the rest of a call for one packet. */
static inline int memif_try_lock(int *p) {
#ifdef Py_GIL_DISABLED
    return __atomic_exchange_n(p, 1, __ATOMIC_ACQUIRE) == 0;
#else
    if (__atomic_load_n(p, __ATOMIC_ACQUIRE)) return 0;
    __atomic_store_n(p, 1, __ATOMIC_RELAXED);
    return 1;
#endif
}
static inline void memif_unlock(int *p) { __atomic_store_n(p, 0, __ATOMIC_RELEASE); }
static inline int memif_flag_get(const int *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void memif_flag_set(int *p, int v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }

static inline void memif_prefetch_read(const void *p) { __builtin_prefetch(p, 0, 3); }
static inline void memif_prefetch_write(const void *p) {
#if defined(__x86_64__)
    __asm__ __volatile__("prefetchw %0" : : "m"(*(const char *)p));
#else
    __builtin_prefetch(p, 1, 3);
#endif
}

/* A hint to the core that this is a spin loop. */
static inline void memif_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#endif
