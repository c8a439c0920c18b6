// What the kernels need of the language they are compiled as. LANES is how many
// seeds a work item tests side by side: 1, or 16 where the compiler has vectors.
//
// UV and UL are a 32-bit and a 64-bit number for each lane. HIT is 1 in the lanes
// where a comparison holds and 0 in the others. COUNT_UP(p) raises *p for all work
// items and gives what it was. BY(p), of each kind of generator, is how step takes
// the numbers at p.

#ifdef __OPENCL_VERSION__
#define KERNEL __kernel
#define GLOBAL __global
#define FN
#define ITEM get_global_id(0)
#define COUNT_UP(p) atomic_inc(p)
#define MIN(a, b) min(a, b)

typedef uint u32;
typedef ulong u64;
#else // CUDA C++ and HIP, which have no vectors: LANES is 1
#define KERNEL extern "C" __global__
#define GLOBAL
#define FN static __device__
#define ITEM (blockIdx.x * blockDim.x + threadIdx.x)
#define COUNT_UP(p) atomicAdd(p, 1u)
#define MIN(a, b) ((a) < (b) ? (a) : (b))

typedef unsigned int u32;
typedef unsigned long long u64;
#endif

#if LANES == 1
typedef u32 UV;
typedef u64 UL;
#define LANE_NUMBERS 0
#define WIDE(x) ((UL)(x))
#define NARROW(x) ((UV)(x))
#define HIT(comparison) ((UV)(comparison))
#define SOME(x) (x)
#define STORE(x, p) (*(p) = (x))
#else
typedef uint16 UV;
typedef ulong16 UL;
#define LANE_NUMBERS ((UV)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
#define WIDE(x) convert_ulong16(x)
#define NARROW(x) convert_uint16(x)
#define HIT(comparison) as_uint16(-(comparison))
#define SOME(x) any((x) != 0)
#define STORE(x, p) vstore16(x, 0, p)
#endif

// The low 32 bits of neighbouring seeds.
#define SEEDS(first) ((UV)((u32)(first)) + LANE_NUMBERS)
#define LONG_SEEDS(first) ((UL)(first) + WIDE(LANE_NUMBERS))

#define ROTATE(x, n, width) (((x) << (n)) | ((x) >> ((width) - (n))))

// The next output of splitmix64, which fills the states of others.
FN UL splitmix64(UL *x) {
	UL z = *x += 0x9e3779b97f4a7c15ul;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ul;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebul;
	return z ^ (z >> 31);
}
