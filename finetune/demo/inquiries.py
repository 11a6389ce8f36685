"""A second task, which the demo checkpoint does not know: what an inquiry is about.

Citizens write to six departments of a city, which are six agents. The answer is compact JSON. The
data come out of word lists, so that training can be tried without any data of one's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from random import Random
from typing import Any
from zlib import crc32

from provider.protocol.serial import dumps

SYSTEM = "당신은 시청 민원 담당자입니다. 민원을 읽고 주제와 긴급 여부를 JSON으로만 답하세요."

DEPARTMENTS: dict[str, tuple[str, ...]] = {
    "tax": ("재산세", "자동차세", "세금 고지서", "체납", "환급금"),
    "housing": ("전세 계약", "임대 주택", "재개발", "층간 소음", "건축 허가"),
    "traffic": ("주차 위반", "신호등", "버스 노선", "도로 파손", "과속 방지턱"),
    "welfare": ("기초 연금", "장애인 등록", "긴급 복지", "돌봄 서비스", "경로당"),
    "environment": ("쓰레기 수거", "악취", "미세먼지", "하천 오염", "소음 측정"),
    "education": ("어린이집", "방과후 교실", "도서관", "장학금", "학교 급식"),
}
"""Name of a department, which is also the agent's, and the subjects that belong to it."""

_URGENT = ("지금 당장", "오늘 안에", "매우 급합니다,", "위험합니다,")
_CALM = ("시간 되실 때", "다음 주까지", "천천히", "궁금해서 그런데")
_FORMS = (
    "{when} {subject} 문제를 확인해 주세요.",
    "{subject} 때문에 문의드립니다. {when} 답을 주세요.",
    "우리 동네 {subject} 건으로 {when} 연락 바랍니다.",
    "{when} {subject} 신청 방법을 알려 주세요.",
    "안녕하세요, {subject} 관련 담당자를 찾습니다. {when} 부탁드립니다.",
)


def inquiries(count: int, seed: int = 0, held_out: bool = False) -> Iterator[dict[str, Any]]:
    """Conversations with `agent_type`, `count` of them, departments in turn.

    A tenth of all questions is kept back: it comes with `held_out` alone, and then no question
    twice. Raises `ValueError` where more are wanted than are kept back.
    """
    random = Random(f"inquiries/{seed}")
    questions = {name: list(_questions(name, held_out)) for name in DEPARTMENTS}
    if held_out:
        most = len(DEPARTMENTS) * min(len(of) for of in questions.values())
        if count > most:
            raise ValueError(f"{count} inquiries are wanted, and {most} are held out")
        for of in questions.values():
            random.shuffle(of)
    names = list(DEPARTMENTS)
    for number in range(count):
        department = names[number % len(names)]
        of = questions[department]
        text, answer = of.pop() if held_out else random.choice(of)
        yield {
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": text},
                {"role": "assistant", "content": answer},
            ],
            "agent_type": department,
        }


def _questions(department: str, held_out: bool) -> Iterator[tuple[str, str]]:
    """Every question to a department with its answer; which are held out follows from the text."""
    for subject, form in product(DEPARTMENTS[department], _FORMS):
        for when in _URGENT + _CALM:
            text = form.format(when=when, subject=subject)
            if (crc32(text.encode()) % 10 == 0) is held_out:
                yield text, dumps({"subject": subject, "urgent": when in _URGENT})
