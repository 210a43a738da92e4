"""What the synthetic voices say, in the languages of the audio-language models: half to tune on."""

SENTENCES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cmn": (
        ("今天天气怎么样", "请帮我打开客厅的灯", "明天早上七点叫我起床"),
        ("你能不能讲一个故事", "我想知道现在几点了", "请把这句话翻译成英文"),
    ),
    "yue": (
        ("今日天氣點樣", "請幫我開客廳嘅燈", "聽朝七點叫我起身"),
        ("你可唔可以講個故事", "我想知道而家幾點", "請將呢句話譯做英文"),
    ),
    "en": (
        ("What is the weather like today", "Turn on the lights in the living room"),
        ("Could you tell me a short story", "I would like to know what time it is"),
    ),
    "fr": (
        ("Quel temps fait il aujourd'hui", "Allume la lumière dans le salon"),
        ("Peux tu me raconter une histoire", "Je voudrais savoir quelle heure il est"),
    ),
    "it": (
        ("Che tempo fa oggi a Milano", "Accendi la luce nel soggiorno per favore"),
        ("Puoi raccontarmi una breve storia", "Vorrei sapere che ore sono adesso"),
    ),
    "es": (
        ("Qué tiempo hace hoy en la ciudad", "Enciende la luz de la sala por favor"),
        ("Puedes contarme una historia corta", "Me gustaría saber qué hora es ahora"),
    ),
    "de": (
        ("Wie wird das Wetter heute Nachmittag", "Mach bitte das Licht im Wohnzimmer an"),
        ("Kannst du mir eine Geschichte erzählen", "Ich möchte wissen wie spät es ist"),
    ),
    "ja": (
        ("きょうの てんきは どうですか", "いまの でんきを つけてください"),
        ("みじかい はなしを してください", "いま なんじか おしえてください"),
    ),
}
"""Per voice of espeak-ng: those of the tune set and those of the reported set."""
