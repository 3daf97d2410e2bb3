# The only ways in which memory that a peer can write is read and written; see atomics.h.
from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef extern from "atomics.h" nogil:
    uint16_t memif_load_acquire(const uint16_t *p)
    uint16_t memif_load16(const uint16_t *p)
    uint32_t memif_load32(const uint32_t *p)
    uint64_t memif_load64(const uint64_t *p)
    void memif_store_release(uint16_t *p, uint16_t v)
    void memif_store16(uint16_t *p, uint16_t v)
    void memif_store32(uint32_t *p, uint32_t v)
    void memif_store64(uint64_t *p, uint64_t v)
    void memif_store_pair(uint64_t *p, uint64_t low, uint64_t high)
    void memif_fence()
    bint memif_try_lock(int *p)
    void memif_unlock(int *p)
    int memif_flag_get(const int *p)
    void memif_flag_set(int *p, int v)
    void memif_prefetch_read(const void *p)
    void memif_prefetch_write(const void *p)
    void memif_pause()
