/* A stand-in for the CUDA runtime, for tests: the device's memory is the host's. */
#include <stdlib.h>
#include <string.h>

int cudaMalloc(void **address, size_t size) { return (*address = malloc(size)) ? 0 : 2; }
int cudaStreamCreate(void **stream) { static int one; *stream = &one; return 0; }
int cudaStreamSynchronize(void *stream) { return stream ? 0 : 400; }
int cudaMemcpyAsync(void *to, const void *from, size_t size, int way, void *stream) {
  if (!stream || (way != 1 && way != 2)) return 400;
  memcpy(to, from, size);
  return 0;
}
