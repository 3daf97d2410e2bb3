/* Copying a packet with as few stores as the machine allows.
 *
 * The lines that a packet is written to were last held by the peer's core. Stores to them wait in the store buffer until
 * the line has come over, in order, so the number of packets whose lines can be under way at once is the buffer's size
 * divided by the stores a packet. 32-byte stores halve those. Both sides can be shared memory, and where a peer says that
 * its buffers are they may well overlap: so everything is loaded before anything is stored. */
#ifndef MEMIF_COPY_H
#define MEMIF_COPY_H

#include <stdint.h>
#include <string.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define MEMIF_CHECKED
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define MEMIF_CHECKED
#endif

#if defined(__AVX__) && !defined(MEMIF_CHECKED)
/* Compiled for AVX: the compiler does it, keeps values of its own in whole registers, and clears them itself. The assembly
 * below must not run in such code: vzeroupper changes the upper halves of registers that it does not name. */
#include <immintrin.h>
#define MEMIF_WIDE 1

static inline void memif_wide_two(uint8_t *target, const uint8_t *source, uint32_t n) {
    __m256i a = _mm256_loadu_si256((const __m256i *)source), b = _mm256_loadu_si256((const __m256i *)(source + n - 32));
    _mm256_storeu_si256((__m256i *)target, a);
    _mm256_storeu_si256((__m256i *)(target + n - 32), b);
}

static inline void memif_wide_four(uint8_t *target, const uint8_t *source, uint32_t n) {
    __m256i a = _mm256_loadu_si256((const __m256i *)source), b = _mm256_loadu_si256((const __m256i *)(source + 32));
    __m256i c = _mm256_loadu_si256((const __m256i *)(source + n - 64)), d = _mm256_loadu_si256((const __m256i *)(source + n - 32));
    _mm256_storeu_si256((__m256i *)target, a);
    _mm256_storeu_si256((__m256i *)(target + 32), b);
    _mm256_storeu_si256((__m256i *)(target + n - 64), c);
    _mm256_storeu_si256((__m256i *)(target + n - 32), d);
}
#elif defined(__x86_64__) && !defined(MEMIF_CHECKED)
/* Compiled for any x86-64: the compiler uses lower halves only, so vzeroupper changes nothing that it knows of. A
 * sanitizer does not see what assembly does. */
#define MEMIF_WIDE __builtin_cpu_supports("avx")

/* The two ends of 32 to 64 bytes. */
static inline void memif_wide_two(uint8_t *target, const uint8_t *source, uint32_t n) {
    __asm__ __volatile__("vmovdqu (%1), %%ymm0\n\tvmovdqu -32(%1,%2), %%ymm1\n\t"
                         "vmovdqu %%ymm0, (%0)\n\tvmovdqu %%ymm1, -32(%0,%2)\n\tvzeroupper"
                         : : "r"(target), "r"(source), "r"((uint64_t)n) : "memory", "xmm0", "xmm1");
}

/* The two ends of 64 to 128 bytes. */
static inline void memif_wide_four(uint8_t *target, const uint8_t *source, uint32_t n) {
    __asm__ __volatile__("vmovdqu (%1), %%ymm0\n\tvmovdqu 32(%1), %%ymm1\n\t"
                         "vmovdqu -64(%1,%2), %%ymm2\n\tvmovdqu -32(%1,%2), %%ymm3\n\t"
                         "vmovdqu %%ymm0, (%0)\n\tvmovdqu %%ymm1, 32(%0)\n\t"
                         "vmovdqu %%ymm2, -64(%0,%2)\n\tvmovdqu %%ymm3, -32(%0,%2)\n\tvzeroupper"
                         : : "r"(target), "r"(source), "r"((uint64_t)n) : "memory", "xmm0", "xmm1", "xmm2", "xmm3");
}
#else
#define MEMIF_WIDE 0
static inline void memif_wide_two(uint8_t *target, const uint8_t *source, uint32_t n) { memmove(target, source, n); }
static inline void memif_wide_four(uint8_t *target, const uint8_t *source, uint32_t n) { memmove(target, source, n); }
#endif

/* Two overlapping moves of a constant size, for `size` to twice as many bytes. */
#define MEMIF_ENDS(size)                                                                                               \
    do {                                                                                                               \
        uint8_t low[size], high[size];                                                                                 \
        memcpy(low, source, size);                                                                                     \
        memcpy(high, source + n - size, size);                                                                         \
        memcpy(target, low, size);                                                                                     \
        memcpy(target + n - size, high, size);                                                                         \
    } while (0)

static inline void memif_copy(uint8_t *target, const uint8_t *source, uint32_t n) {
    if (n > 128 || n < 16)
        memmove(target, source, n);
    else if (n < 32)
        MEMIF_ENDS(16);
    else if (MEMIF_WIDE)
        n > 64 ? memif_wide_four(target, source, n) : memif_wide_two(target, source, n);
    else if (n > 64)
        MEMIF_ENDS(64);
    else
        MEMIF_ENDS(32);
}

#endif
