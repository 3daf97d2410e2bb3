/* Acquire, release and full fences over the compiler's __atomic builtins: Cython has no stdatomic of its own.
 *
 * Every access to memory that a peer can write goes through one of these, so that it is read or written once, whole,
 * and in the order that the ring protocol needs. */
#ifndef MEMIF_ATOMICS_H
#define MEMIF_ATOMICS_H

#include <stdint.h>

static inline uint16_t memif_load_acquire(const volatile uint16_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline uint16_t memif_load16(const volatile uint16_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline uint64_t memif_load64(const volatile uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline void memif_store_release(volatile uint16_t *p, uint16_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline void memif_store16(volatile uint16_t *p, uint16_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline void memif_store32(volatile uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline void memif_store64(volatile uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }

/* Orders a store before a later load (index before MASK_INT, MASK_INT before index): the only place that needs it. */
static inline void memif_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/* Private flags shared by threads of this process only. */
static inline int memif_try_lock(int *p) { return __atomic_exchange_n(p, 1, __ATOMIC_ACQUIRE) == 0; }
static inline void memif_unlock(int *p) { __atomic_store_n(p, 0, __ATOMIC_RELEASE); }
static inline int memif_flag_get(const int *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void memif_flag_set(int *p, int v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }

static inline void memif_prefetch_read(const void *p) { __builtin_prefetch(p, 0, 3); }
static inline void memif_prefetch_write(const void *p) { __builtin_prefetch(p, 1, 3); }

/* A hint to the core that this is a spin loop. */
static inline void memif_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#endif
