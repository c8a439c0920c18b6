// xoshiro128. VARIANT is the scrambler: 0 ++, 1 **.

#define STREAM

typedef struct { UV a, b, c, d; } generator;

FN void seed(generator *g, UL seeds) {
	UL low = splitmix64(&seeds), high = splitmix64(&seeds);
	g->a = NARROW(low);
	g->b = NARROW(low >> 32);
	g->c = NARROW(high);
	g->d = NARROW(high >> 32);
}

FN void advance(generator *g) {
	UV t = g->b << 9;
	g->c ^= g->a;
	g->d ^= g->b;
	g->b ^= g->c;
	g->a ^= g->d;
	g->c ^= t;
	g->d = ROTATE(g->d, 11, 32);
}

FN UL output(const generator *g) {
	if (VARIANT == 1)
		return WIDE(ROTATE(g->b * 5, 7, 32) * 9);
	return WIDE(ROTATE(g->a + g->d, 7, 32) + g->a);
}
