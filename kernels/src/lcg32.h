// x = mul*x + add modulo 2^32, or modulo a smaller power of two with the state
// SEED_LEFT bits further left. One step leaps over any number of outputs.

#define BY(steps) (u32)(steps)[0], (u32)(steps)[1]

typedef struct { UV x; } state;

FN void start(state *g, u64 first) { g->x = SEEDS(first) << SEED_LEFT; }

FN void step(state *g, u32 mul, u32 add) { g->x = g->x * mul + add; }

FN UV word(const state *g) { return g->x; }
