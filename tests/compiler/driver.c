// A stand-in for CUDA's driver, which records what it is asked for and runs one kernel by itself, and a function that
// XLA calls on a CPU in front of another one, to which it gives a stream as XLA does on a GPU.
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "xla/ffi/api/c_api.h"

enum { MOST = 100000 };
enum { LOAD, GET, LAUNCH };

void *current = (void *)0x100;
int loads, launches, games, refused = -1, status = 218;
char image[MOST], name[200];
void *kernel, *stream_of_launch, *extra_of_launch;
unsigned sizes[7];

static int refuse(int what) { return refused == what ? status : 0; }

int cuCtxGetCurrent(void **context) {
  *context = current;
  return 0;
}

int cuModuleLoadData(void **module, const void *data) {
  ++loads;
  strncpy(image, data, MOST - 1);
  *module = (char *)current + 1;
  return refuse(LOAD);
}

int cuModuleGetFunction(void **function, void *module, const char *wanted) {
  strncpy(name, wanted, sizeof name - 1);
  *function = (char *)module + 1;
  return refuse(GET);
}

int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
  unsigned given[7] = {gx, gy, gz, bx, by, bz, shared};
  ++launches;
  kernel = function, stream_of_launch = stream, extra_of_launch = extra;
  memcpy(sizes, given, sizeof sizes);
  if (refuse(LAUNCH)) return status;
  const double *x = *(double **)parameters[0], *rate = *(double **)parameters[1];
  double *moved = *(double **)parameters[2];
  for (int game = 0; game < games; ++game) {
    moved[game] = x[game];
    for (int step = 0; step < 20; ++step) moved[game] -= rate[game] * tanh(moved[game]);
  }
  return 0;
}

int cuGetErrorName(int which, const char **text) {
  if (which != 218) return 1;
  *text = "CUDA_ERROR_INVALID_PTX";
  return 0;
}

XLA_FFI_Handler *inner;
void *stream = (void *)0x57;
size_t size_of_question;

static XLA_FFI_Error *get_stream(XLA_FFI_Stream_Get_Args *question) {
  size_of_question = question->struct_size;
  question->stream = question->ctx == NULL ? NULL : stream;
  return NULL;
}

XLA_FFI_Error *with_stream(XLA_FFI_CallFrame *frame) {
  if (frame->extension_start != NULL) return inner(frame);
  XLA_FFI_Api api = *frame->api;
  XLA_FFI_CallFrame changed = *frame;
  api.XLA_FFI_Stream_Get = get_stream;
  changed.api = &api;
  return inner(&changed);
}

size_t size_of_stream_get_args(void) { return XLA_FFI_Stream_Get_Args_STRUCT_SIZE; }
