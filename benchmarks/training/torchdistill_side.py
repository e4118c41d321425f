"""torchdistill's own loop in an environment of its own: its box, its KD loss, its loader, its ResNets."""

import json
import resource
import sys
import time

import numpy as np
import torch
from torchdistill.core.distillation import get_distillation_box
from torchdistill.models.classification import resnet
from torchvision import transforms


class Photos(torch.utils.data.Dataset):
    """What torchvision's CIFAR100 does with an image."""

    def __init__(self, files, images):
        arrays = [np.load(file, allow_pickle=False) for file in files]
        self.images = np.concatenate([one["x_train"] for one in arrays if "x_train" in one])[:images]
        self.labels = np.concatenate([one["y_train"] for one in arrays if "y_train" in one])[:images]
        mean, std = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
        crop, flip = transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()
        last = [transforms.ToTensor(), transforms.Normalize(mean, std)]
        self.transform = transforms.Compose([transforms.ToPILImage(), crop, flip, *last])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(self.images[index]), int(self.labels[index])


def box_of(spec):
    teacher, student = (getattr(resnet, name)(num_classes=spec["classes"]) for name in spec["pair"])
    output = {"forward_proc": "forward_batch_only", "forward_hook": {"input": [], "output": ["fc"]}}
    paths = {"student_module_path": "fc", "teacher_module_path": "fc"}
    both = {"student_module_io": "output", "teacher_module_io": "output", "temperature": 4.0, "alpha": 0.5}
    loader = {
        "dataset_id": "train",
        "sampler": {"class_or_func": torch.utils.data.RandomSampler, "kwargs": {}},
        "kwargs": {"batch_size": spec["batch"], "num_workers": 2, "drop_last": True},
    }
    rates = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
    config = {
        "num_epochs": 1,
        "train_data_loader": loader,
        "teacher": {**output, "requires_grad": False},
        "student": dict(output),
        "optimizer": {"key": "SGD", "kwargs": rates},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {
                "sub_terms": {
                    "kd": {"criterion": {"key": "KDLoss", "kwargs": {**paths, **both}}, "weight": 1.0}
                }
            },
        },
    }
    photos = {"train": Photos(spec["data"], spec["images"])}
    return get_distillation_box(teacher, student, photos, config, torch.device("cpu"), None, False, 1)


def steps(spec):
    box = box_of(spec)
    while True:
        box.pre_epoch_process(epoch=0)
        for sample, targets, more in box.train_data_loader:
            box.pre_forward_process()
            loss = box.forward_process(sample_batch=sample, targets=targets, supp_dict=more)
            box.post_forward_process(loss=loss)
            yield len(sample)


def main(file):
    with open(file) as text:
        spec = json.load(text)
    going, warm, seen = steps(spec), spec["warm"], 0
    while warm > 0:
        warm -= next(going)
    started = time.perf_counter()
    while time.perf_counter() - started < spec["seconds"]:
        seen += next(going)
    rate = seen / (time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"images_per_second": rate, "peak_bytes": peak}))


main(sys.argv[1])
