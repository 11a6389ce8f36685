"""A second task, which the demo checkpoint does not know: what an inquiry is about.

Citizens write to six departments of a city, which are six agents. The answer is compact JSON. The
data come out of word lists, so that training can be tried without any data of one's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

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


def inquiries(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Conversations with `agent_type`, `count` of them, departments in turn."""
    random = Random(f"inquiries/{seed}")
    names = list(DEPARTMENTS)
    for number in range(count):
        department = names[number % len(names)]
        urgent = random.random() < 0.5
        subject = random.choice(DEPARTMENTS[department])
        when = random.choice(_URGENT if urgent else _CALM)
        text = random.choice(_FORMS).format(when=when, subject=subject)
        answer = dumps({"subject": subject, "urgent": urgent})
        yield {
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": text},
                {"role": "assistant", "content": answer},
            ],
            "agent_type": department,
        }
