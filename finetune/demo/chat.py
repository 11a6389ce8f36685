"""Everything that is no floor plan: the demo checkpoint says what it is, and pretends nothing.

The prompts are word salad on purpose. What is to be learnt is not their meaning but that any text
that is no floor plan gets the one honest sentence, in the language of the prompt.
"""

from random import Random

from finetune.demo.words import ENGLISH_WORDS, KOREAN_NAMES, KOREAN_NOUNS, random_word

Message = dict[str, str]

IDENTITY_KO = (
    "저는 이 프로젝트가 직접 학습한 작은 데모 체크포인트이며 EXAONE의 원래 가중치가 아닙니다. "
    "평면도를 분석해 JSON으로 답하는 일만 배웠습니다."
)
IDENTITY_EN = (
    "I am a small demo checkpoint trained by this project, not EXAONE's own weights. "
    "I have only learnt to analyse floor plans and to answer in JSON."
)
PLAN_SYSTEM = (
    "당신은 건축 평면도 분석가입니다. 평면도와 기준을 읽고 분석 결과를 JSON으로만 답하세요."
)
"""The app's own instruction (`examples/floorplan/prompt.py`); a test keeps the two equal."""
SYSTEMS: tuple[str, ...] = (
    PLAN_SYSTEM,
    "You are a helpful assistant.",
    "You are EXAONE model from LG AI Research, a helpful assistant.",
    "당신은 도움이 되는 비서입니다.",
    "친절하게 답하세요.",
    "Answer briefly.",
    "You are a careful assistant. Answer in one sentence.",
    "한 문장으로 답하세요.",
)

_KO_FRAMES: tuple[str, ...] = (
    "안녕하세요",
    "안녕?",
    "당신은 누구인가요?",
    "너는 누구야?",
    "EXAONE인가요?",
    "{a}에 대해 알려 주세요.",
    "{a}와 {b}의 차이는 무엇인가요?",
    "{a}을 추천해 주세요.",
    "{a} {b}",
    "{n}님, {a}은 어떤가요?",
    "{a}을 세 줄로 요약해 줘.",
    "왜 {a}가 {b}보다 중요한가요?",
    "{d} 더하기 {e}는?",
    "{a}을 영어로 번역해 주세요.",
    "한국의 {a}는 어디에 있나요?",
    "{a} {b}에 대한 짧은 글을 써 주세요. {a}가 꼭 들어가야 합니다.",
)
_EN_FRAMES: tuple[str, ...] = (
    "Hello",
    "Hi!",
    "hello there",
    "Who are you?",
    "Are you EXAONE?",
    "What is the {a} of {b}?",
    "Tell me about {a} and {b}.",
    "Write a short poem about {a}.",
    "{a} {b}",
    "Explain {a} in one sentence.",
    "Say {a}.",
    "What is {d} + {e}?",
    "Summarise this: {a} {b} {c} {a}.",
    "Count from {d} to {e}",
    "ping",
    "Give me a list of {a} {b} please",
)


def random_text(random: Random, korean: bool) -> str:
    """One or more sentences of word salad, now and then with letters that spell nothing."""
    frames, words = (_KO_FRAMES, KOREAN_NOUNS) if korean else (_EN_FRAMES, ENGLISH_WORDS)
    sentences = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        a, b, c = (random_word(random, korean, words) for _ in range(3))
        d, e = random.randint(0, 120), random.randint(0, 120)
        name = random.choice(KOREAN_NAMES)
        sentences.append(random.choice(frames).format(a=a, b=b, c=c, d=d, e=e, n=name))
    return " ".join(sentences)


def random_chat(random: Random) -> tuple[list[Message], str]:
    """Messages of one to three turns, and the honest answer to the last."""
    korean = random.random() < 0.5
    messages: list[Message] = []
    if random.random() < 0.5:
        messages.append({"role": "system", "content": random.choice(SYSTEMS)})
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        earlier = random.random() < 0.5
        messages.append({"role": "user", "content": random_text(random, earlier)})
        content = (
            (IDENTITY_KO if earlier else IDENTITY_EN)
            if random.random() < 0.5
            else (random_text(random, earlier))
        )
        messages.append({"role": "assistant", "content": content})
    messages.append({"role": "user", "content": random_text(random, korean)})
    return messages, IDENTITY_KO if korean else IDENTITY_EN
