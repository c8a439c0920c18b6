// What NVRTC knows by itself of CUDA C++, for clang without CUDA's headers.
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __constant__ __attribute__((constant))

struct seedmesh_dim { unsigned x; };
#define blockIdx (seedmesh_dim{(unsigned)__nvvm_read_ptx_sreg_ctaid_x()})
#define blockDim (seedmesh_dim{(unsigned)__nvvm_read_ptx_sreg_ntid_x()})
#define threadIdx (seedmesh_dim{(unsigned)__nvvm_read_ptx_sreg_tid_x()})
#define atomicAdd(p, n) __atomic_fetch_add(p, n, __ATOMIC_RELAXED)
