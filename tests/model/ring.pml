/* One memif ring between two ends, checked exhaustively: see README.md for what stands for what.
 *
 * Chosen with -D:
 *   S2M | M2S        direction; the slave stores head, the master stores tail
 *   SIZE, MOD        slots, and what the indices wrap at (65536 in reality; a power of two, at least 2 * SIZE)
 *   BURST            packets that one send or recv may move
 *   CHAINS           packets of two slots too
 *   DEPTH            stores that a buffer holds, at most 8
 *   WEAK             stores are committed in any order that release allows, not in program order
 *   SPINS=1          the receiver spins with MASK_INT set before it sleeps ("adaptive"); 0: "interrupt"
 *   EVENT_LOOP=1, 2  the receiver sleeps in somebody's event loop; on waking it calls recv until a burst is short (1),
 *                    or once (2)
 *   RUNS=2           the application holds up to two bursts and releases them in either order
 *   BOUNDED_WAIT     a sleep may end by itself, at any time
 *   UNFENCED         the sender has no fence before it reads MASK_INT, as VPP and DPDK
 *   PEER_CUTS        the sender shows the pieces of a chain one by one, and the receiver has to cope
 *   EVENTUALLY       check liveness instead of safety
 * Mistakes to be caught: TWO_STORES, LOOSE_PUBLISH, LOOSE_RETURN, LOOSE_LOADS, LOOSE_FREE, EARLY_RETURN,
 * ARM_UNFENCED, NO_RECHECK, NO_RETURN, NO_RESIGNAL, BLIND_DRAIN, OFF_BY_ONE, NO_WRAP.
 */
#ifndef SPINS
#define SPINS 0
#endif
#ifndef RUNS
#define RUNS 1
#endif
#define IDX(x)      ((x) & (MOD - 1))
#define SLOT(x)     ((x) & (SIZE - 1))
#ifdef S2M
#define OUTSTANDING IDX(published - returned)           /* slots with packets */
#else
#define OUTSTANDING IDX(returned - published)           /* slots with empty buffers */
#endif
#if EVENT_LOOP == 1
#define AGAIN (got == limit)
#else
#define AGAIN false
#endif

#include "memory.pml"
#include "producer.pml"
#include "consumer.pml"

init {
    atomic {
        run Producer();
        run Consumer();
        run Memory(PRODUCER);
        run Memory(CONSUMER)
    }
#ifndef EVENTUALLY
    timeout;                    /* nobody can go on: both ends have come to their end, or */
    assert(received == written);        /* the receiver sleeps while a packet waits: a wake-up was lost */
    assert(quit)                        /* the sender waits for slots that nobody will return */
#endif
}

#ifdef EVENTUALLY
ltl eventually { [] (watched -> <> !watched) }
#endif
