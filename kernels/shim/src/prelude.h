// What a GPU's compiler knows by itself, for a kernel that runs on the CPU.
struct dim { unsigned x; };
static __thread dim blockIdx, blockDim, threadIdx;
#define __global__
#define __device__
#define __constant__
#define atomicAdd(p, n) __atomic_fetch_add(p, n, __ATOMIC_RELAXED)

extern "C" void search(const unsigned long long *, unsigned long long *, unsigned *);

// run is the grid: so many blocks of so many threads, one after the other.
extern "C" void run(unsigned blocks, unsigned threads, void **arguments) {
	blockDim.x = threads;
	for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
		for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++)
			search((const unsigned long long *)arguments[0], (unsigned long long *)arguments[1], (unsigned *)arguments[2]);
}
