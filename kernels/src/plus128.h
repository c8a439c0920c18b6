// Two words whose sum is put out. VARIANT 0 is xoroshiro128+, 1 xorshift128+.

#define STREAM

typedef struct { UL a, b; } generator;

FN void seed(generator *g, UL seeds) {
	g->a = splitmix64(&seeds);
	g->b = splitmix64(&seeds);
}

FN void advance(generator *g) {
	UL a = g->a, b = g->b;
	if (VARIANT == 0) {
		b ^= a;
		g->a = ROTATE(a, 24, 64) ^ b ^ (b << 16);
		g->b = ROTATE(b, 37, 64);
	} else {
		a ^= a << 23;
		g->a = b;
		g->b = a ^ b ^ (a >> 18) ^ (b >> 5);
	}
}

FN UL output(const generator *g) { return g->a + g->b; }
