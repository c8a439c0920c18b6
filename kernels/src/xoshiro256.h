// xoshiro256. VARIANT is the scrambler: 0 ++, 1 **, 2 +; 3 is ++ with the seed as its first
// word and constants as the others.

#define STREAM

typedef struct { UL a, b, c, d; } generator;

FN void seed(generator *g, UL seeds) {
	if (VARIANT == 3) {
		g->a = seeds;
		g->b = 0x9e3779b97f4a7c15ul;
		g->c = 0x6a09e667f3bcc908ul;
		g->d = 0xbb67ae8584caa73bul;
		return;
	}
	g->a = splitmix64(&seeds);
	g->b = splitmix64(&seeds);
	g->c = splitmix64(&seeds);
	g->d = splitmix64(&seeds);
}

FN void advance(generator *g) {
	UL t = g->b << 17;
	g->c ^= g->a;
	g->d ^= g->b;
	g->b ^= g->c;
	g->a ^= g->d;
	g->c ^= t;
	g->d = ROTATE(g->d, 45, 64);
}

FN UL output(const generator *g) {
	if (VARIANT == 1)
		return ROTATE(g->b * 5, 7, 64) * 9;
	if (VARIANT == 2)
		return g->a + g->d;
	return ROTATE(g->a + g->d, 23, 64) + g->a;
}
