/* Handlers for the tests of RxQueue.serve. */
#include <stdint.h>
#include <string.h>

int32_t echo(uint8_t **packets, uint32_t *lengths, uint32_t count, void *data) { return 0; }

int32_t swap_macs(uint8_t **packets, uint32_t *lengths, uint32_t count, void *data) {
    for (uint32_t i = 0; i < count; i++) {
        uint8_t kept[6], *p = packets[i];
        if (lengths[i] < 14) {
            lengths[i] = 0;
            continue;
        }
        memcpy(kept, p, 6);
        memcpy(p, p + 6, 6);
        memcpy(p + 6, kept, 6);
    }
    return 0;
}

/* Packets whose first byte is odd are dropped; the others lose their last byte. */
int32_t choose(uint8_t **packets, uint32_t *lengths, uint32_t count, void *data) {
    for (uint32_t i = 0; i < count; i++) lengths[i] = packets[i][0] & 1 ? 0 : lengths[i] - 1;
    return 0;
}

struct notes {
    uint64_t calls, packets, bytes, sum;
};

/* Notes what it gets: the sum is over all bytes. */
int32_t note(uint8_t **packets, uint32_t *lengths, uint32_t count, void *data) {
    struct notes *notes = data;
    notes->calls++;
    for (uint32_t i = 0; i < count; i++) {
        notes->packets++;
        notes->bytes += lengths[i];
        for (uint32_t k = 0; k < lengths[i]; k++) notes->sum += packets[i][k];
    }
    return 0;
}

/* Leaves the length that `data` holds at packets whose first byte is 0xEE. */
int32_t wrong(uint8_t **packets, uint32_t *lengths, uint32_t count, void *data) {
    for (uint32_t i = 0; i < count; i++)
        if (packets[i][0] == 0xEE) lengths[i] = *(uint32_t *)data;
    return 0;
}

/* Ends the loop with the first packet whose first byte is 0xEE. */
int32_t until_mark(uint8_t **packets, uint32_t *lengths, uint32_t count, void *data) {
    for (uint32_t i = 0; i < count; i++)
        if (packets[i][0] == 0xEE) return 1;
    return 0;
}

struct target {
    uint64_t address, size;
    uint8_t value;
};

/* The peer writes all over a part of the shared memory, while the packets are handled. */
int32_t meddle(uint8_t **packets, uint32_t *lengths, uint32_t count, void *data) {
    struct target *target = data;
    memset((void *)(uintptr_t)target->address, target->value, target->size);
    return 0;
}

/* Tells where the lengths are, for `scribble`. */
int32_t reveal(uint8_t **packets, uint32_t *lengths, uint32_t count, void *data) {
    ((struct target *)data)->address = (uintptr_t)lengths;
    return 0;
}

/* A thread of the handler's, which writes lengths when nobody expects it, until the value is set. */
void scribble(volatile struct target *target) {
    volatile uint32_t *lengths = (volatile uint32_t *)(uintptr_t)target->address;
    for (uint32_t n = 0; !target->value; n++)
        for (uint64_t i = 0; i < target->size; i++) lengths[i] = n & 7 ? 60 : 0;
}
