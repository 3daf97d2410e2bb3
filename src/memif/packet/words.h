/* One's complement sums (RFC 1071). Words are added as the machine reads them: the sum of swapped words is the swapped
   sum. */
#ifndef MEMIF_WORDS_H
#define MEMIF_WORDS_H

#include <stdint.h>
#include <string.h>

/* The sum of n bytes, an odd one padded with zero. Words of 32 bits add up to the same: each is two of 16 with a carry
   to come. */
static inline uint64_t memif_sum(const uint8_t *data, int64_t n)
{
    uint64_t total = 0;
    uint32_t word;
    uint16_t half = 0;
    int64_t i, words = n / 4;
    for (i = 0; i < words; i++) {
        memcpy(&word, data + 4 * i, 4);
        total += word;
    }
    i = 4 * words;
    if (n - i >= 2) {
        memcpy(&half, data + i, 2);
        total += half;
        i += 2;
    }
    if (i < n) {
        half = 0;
        memcpy(&half, data + i, 1);
        total += half;
    }
    return total;
}

static inline uint16_t memif_fold(uint64_t total)
{
    while (total >> 16)
        total = (total & 0xFFFF) + (total >> 16);
    return (uint16_t)total;
}

/* Between the machine's order and a number as it is on the wire. */
static inline uint16_t memif_wire16(uint16_t word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (uint16_t)(word << 8 | word >> 8);
#else
    return word;
#endif
}

/* Numbers of an array, which may lie anywhere. */
static inline int32_t memif_item32(const char *at)
{
    int32_t number;
    memcpy(&number, at, 4);
    return number;
}

static inline int64_t memif_item64(const char *at)
{
    int64_t number;
    memcpy(&number, at, 8);
    return number;
}

static inline uint16_t memif_item16(const char *at)
{
    uint16_t number;
    memcpy(&number, at, 2);
    return number;
}

/* Numbers of a packet. */
static inline uint16_t memif_load_be16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline void memif_store_be16(uint8_t *at, uint16_t number)
{
    at[0] = (uint8_t)(number >> 8);
    at[1] = (uint8_t)number;
}

#endif
