"""Names that somebody else's files may hold in place of a network, an optimizer or the like."""

CODE = [
    "os.system", "os.popen", "os.execv", "os.execvp", "os.posix_spawn", "os.spawnl", "os.remove", "os.mkdir", "os.rename",
    "os.kill", "os.abort", "os._exit", "os.fork", "os.putenv", "os.symlink", "posix.system",
    "subprocess.Popen", "subprocess.call", "subprocess.check_output", "subprocess.run", "subprocess.getoutput",
    "runpy.run_path", "runpy.run_module", "timeit.timeit", "timeit.repeat", "shutil.rmtree", "shutil.copy", "shutil.move",
    "builtins.eval", "builtins.exec", "builtins.__import__", "builtins.open", "builtins.compile", "builtins.print",
    "builtins.breakpoint", "importlib.import_module", "importlib.reload", "importlib.util.spec_from_file_location",
    "pickle.loads", "pickle.load", "marshal.loads", "dill.loads", "cloudpickle.loads", "joblib.load", "shelve.open",
    "socket.create_connection", "urllib.request.urlopen", "urllib.request.urlretrieve", "http.server.test",
    "webbrowser.open", "pty.spawn", "code.interact", "ctypes.CDLL", "ctypes.cdll.LoadLibrary", "functools.partial",
    "operator.methodcaller", "logging.os.system", "logging.config.dictConfig", "logging.FileHandler", "pathlib.Path",
    "pathlib.Path.unlink", "tempfile.os.system", "pip.main", "site.addsitedir", "sys.exit", "sys.modules", "threading.Thread",
    "antigravity.webbrowser", "this.s", "platform.os.system", "cProfile.run", "pdb.run", "trace.Trace",
]  # fmt: skip
LIBRARIES = [
    "torch.load", "torch.save", "torch.hub.load", "torch.hub.download_url_to_file", "torch.jit.load", "torch.ops.load_library",
    "torch.classes.load_library", "torch.package.PackageImporter", "torch.utils.cpp_extension.load",
    "torch.utils.cpp_extension.load_inline", "torch.utils.data.DataLoader", "torch.utils.model_zoo.load_url",
    "torch.serialization.load", "torch.nn.os", "torch.nn.functional.relu", "torch.nn.Parameter", "torch.nn.init.zeros_",
    "torch.nn.modules.module.warnings.warn", "torch.nn.Module.load_state_dict", "torch.nn.parallel.data_parallel.torch.load",
    "torch.nn.Module.__init_subclass__", "torch.nn.Module.register_module.__globals__", "torch.optim.lr_scheduler.StepLR",
    "torch.optim.optimizer.functools.partial", "torch.nn.utils.parametrize.torch.load", "torchvision.io.write_file",
    "torchvision.datasets.MNIST", "torchvision.models.get_model", "torchvision.models.get_weight",
    "torchvision.models.resnet.ResNet", "torchvision.models.segmentation.fcn_resnet50", "numpy.load", "numpy.save",
    "numpy.ctypeslib.load_library", "yaml.unsafe_load", "hydra.utils.instantiate", "hydra.utils.get_method",
    "omegaconf.OmegaConf.save", "safetensors.torch.save_file", "PIL.Image.open", "optuna.create_study", "pandas.read_pickle",
]  # fmt: skip
DETOURS = [
    "cnnlab.config.targets.instantiate", "cnnlab.config.targets.importlib.import_module", "cnnlab.config.targets.locate",
    "cnnlab.config.targets.partial",
    "cnnlab.train.main", "cnnlab.cli.run", "cnnlab.cli.importlib.import_module", "cnnlab.config.trust.import_module",
    "cnnlab.models.build_model", "cnnlab.models.targets.instantiate", "cnnlab.models.torch.load", "cnnlab.data.load_data",
    "cnnlab.data.idx.fetch_idx", "cnnlab.data.idx.Path", "cnnlab.data.idx.gzip.open", "cnnlab.data.download.fetch",
    "cnnlab.data.augment.torch.load", "cnnlab.training.task.Task", "cnnlab.training.task.torch.load",
    "cnnlab.training.schedule.build_schedule", "cnnlab.tracking.files.write_atomic", "cnnlab.tracking.run.subprocess.run",
    "cnnlab.opening.load", "cnnlab.load", "canary_module.Net", "canary_package.inner.Net", "canary_module.os.system",
]  # fmt: skip
SPELLINGS = [
    "", ".", "..", "nn", ".nn", "torch.nn.", "torch.nn..Linear", "torch nn.Linear", "os.system\n", "os\x00.system",
    "\u202eos.system", "cnnlab.models.ConvNet.", "cnnlab.models.ConvNet ", "cnnlab.models.__class__",
    "torch.nn.Linear.__class__", "\uff4fs.system", "\x1b]0;os\x07.system", "os.system;", "a" * 5000 + ".b",
]  # fmt: skip
PAYLOADS = [*CODE, *LIBRARIES, *DETOURS, *SPELLINGS]
