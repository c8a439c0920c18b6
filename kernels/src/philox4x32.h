// Philox of four words, 10 rounds. VARIANT 0 puts out all words of a block, 1 the first.

#define STREAM

typedef struct {
	UV low, high; // the key
	u32 at;       // number of the next output
} generator;

FN void seed(generator *g, UL seeds) {
	g->low = NARROW(seeds);
	g->high = NARROW(seeds >> 32);
	g->at = 0;
}

FN void advance(generator *g) { g->at++; }

FN UL output(const generator *g) {
	UV a = VARIANT == 1 ? g->at : g->at / 4, b = 0, c = 0, d = 0, low = g->low, high = g->high;
	for (u32 round = 0; round < 10; round++) {
		UL p = WIDE(a) * 0xd2511f53u, q = WIDE(c) * 0xcd9e8d57u;
		a = NARROW(q >> 32) ^ b ^ low;
		b = NARROW(q);
		c = NARROW(p >> 32) ^ d ^ high;
		d = NARROW(p);
		low += 0x9e3779b9u;
		high += 0xbb67ae85u;
	}
	u32 word = VARIANT == 1 ? 0 : g->at % 4;
	return WIDE(word == 0 ? a : word == 1 ? b : word == 2 ? c : d);
}
