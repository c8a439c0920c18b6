// x = mul*x + add modulo 2^48, of which bits 16 to 47 are the word. One step
// leaps over any number of outputs.

#define BY(steps) (steps)[0], (steps)[1]

typedef struct { UL x; } state;

FN void start(state *g, u64 first) { g->x = ((first + WIDE(LANE_NUMBERS)) << SEED_LEFT) ^ SEED_XOR; }

FN void step(state *g, u64 mul, u64 add) { g->x = g->x * mul + add; }

FN UV word(const state *g) { return NARROW(g->x >> 16); }
