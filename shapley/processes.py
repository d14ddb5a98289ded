"""Processes that share the rounds of a run: one, or those that torchrun started."""


class OneProcess:
    """A team of one process. A larger team has the same attributes and methods."""

    rank, size = 0, 1
    interrupted = False  # this process has received a signal
    stopping = False  # any process had when they last gathered, so all stop at the same round

    def gather(self, result):
        """The results of all processes, in the order of their ranks."""
        self.stopping = self.interrupted
        return [result]

    def share(self, result):
        """The result of the process of rank 0, in every process."""
        return result

    def run_first(self, make):
        """make() in every process; rank 0 runs it before the others, which then find its cache.

        An exception in rank 0 is raised in all processes.
        """
        result = error = None
        if self.rank == 0:
            try:
                result = make()
            except Exception as failure:
                error = failure
        error = self.share(error)
        if error is not None:
            raise error
        return result if self.rank == 0 else make()

    def close(self):
        """Leave the team: nothing is gathered or shared any more."""


class TorchProcesses(OneProcess):
    """The processes that torchrun started, on one machine or several."""

    def __init__(self, device):
        """Args: device: torch.device of this process; GPUs talk by nccl, CPUs by gloo."""
        import torch
        import torch.distributed

        if device.type == "cuda":
            torch.cuda.set_device(device)
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        self.distributed = torch.distributed
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()

    def gather(self, result):
        """As OneProcess.gather."""
        everyone = [None] * self.size
        self.distributed.all_gather_object(everyone, (result, self.interrupted))
        self.stopping = any(interrupted for _, interrupted in everyone)
        return [result for result, _ in everyone]

    def share(self, result):
        """As OneProcess.share."""
        results = [result]
        self.distributed.broadcast_object_list(results)
        return results[0]

    def close(self):
        """As OneProcess.close."""
        self.distributed.barrier()  # else the first to end would close connections of the others
        self.distributed.destroy_process_group()
