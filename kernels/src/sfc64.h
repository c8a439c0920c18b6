// sfc64. VARIANT 0 has the seed in all three words and runs 12 steps first, 1 has it in one
// and runs none.

#define STREAM

typedef struct {
	UL a, b, c;
	u64 n;
} generator;

FN void advance(generator *g) {
	UL out = g->a + g->b + g->n++;
	g->a = g->b ^ (g->b >> 11);
	g->b = g->c + (g->c << 3);
	g->c = ROTATE(g->c, 24, 64) + out;
}

FN void seed(generator *g, UL seeds) {
	g->a = g->b = g->c = seeds;
	g->n = 1;
	if (VARIANT == 1) {
		g->b = 0x9e3779b97f4a7c15ul;
		g->c = 0x6a09e667f3bcc908ul;
		return;
	}
	for (u32 i = 0; i < 12; i++)
		advance(g);
}

FN UL output(const generator *g) { return g->a + g->b + g->n; }
